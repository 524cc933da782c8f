"""engine=tensorrt_llm through the command line, on the stand-in: worker, stream, archive and summary.

The stand-in gives 1 token from the prefill; then 1 a step in plain decoding, and 4 and 1 in turn with three drafts.
"""

from pathlib import Path

from tests.helpers.command_line import ROOT, CommandLine, measured, read_json

STAND_INS = str(ROOT / "tests" / "stand_ins")
RUN = ["engine=tensorrt_llm", "sampling.max_new_tokens=16", "load.concurrency=2", "hydra.run.dir=run"]


def run(command_line: CommandLine, *overrides: str) -> Path:
    arguments = [*RUN, "dataset=jsonl", f"dataset.path={command_line.prompts}", *overrides]
    outcome = command_line(*arguments, PYTHONPATH=STAND_INS)
    assert (outcome.status, outcome.stderr) == (0, "")
    return command_line.folder / "run"


def test_plain_decoding(command_line: CommandLine) -> None:
    folder = run(command_line, "spec=none")
    summary, manifest = read_json(folder / "summary.json"), read_json(folder / "manifest.json")
    assert summary["requests"]["finished"] == 3
    pooled = summary["acceptance"]["pooled"]
    assert (pooled["output_tokens"], pooled["decode_steps"], pooled["acceptance_length"]) == (48, 45, 1)
    assert summary["acceptance"]["source"] is None
    assert summary["merged_chunks"] == 0
    outputs = [record["output_token_ids"] for record in measured(folder)]
    assert outputs == [list(range(first, first + 16)) for first, *_ in outputs]
    assert len(outputs) == 3
    # Nobody takes it for a measurement: the release says what it is.
    assert manifest["engine"]["resolved"]["tensorrt_llm"] == "0.0.0+stand.in.of.3e906a0ed7c6"
    assert manifest["engine"]["arguments"]["max_batch_size"] == 2
    assert manifest["engine"]["arguments"]["kv_cache_config"] == {"KvCacheConfig": {"enable_block_reuse": False}}


def test_drafts_that_the_engine_does_not_tell_of_are_null_and_not_0(command_line: CommandLine) -> None:
    """Prefill 1; then 4, 1, 4, 1, 4 and 1: 15 tokens in 6 decode steps."""
    folder = run(command_line, "spec=eagle3", "spec.draft_length=3")
    acceptance = read_json(folder / "summary.json")["acceptance"]
    assert acceptance["source"] == "engine_request"
    for figures in (acceptance["pooled"], acceptance["macro"], acceptance["by_category"]["b"]["pooled"]):
        assert figures["acceptance_length"] == 2.5
        for name in (
            "acceptance_length_drafted",
            "draft_acceptance_rate",
            "acceptance_joint",
            "acceptance_conditional",
            "acceptance_histogram",
        ):
            assert figures[name] is None, name
    pooled = acceptance["pooled"]
    assert (pooled["output_tokens"], pooled["decode_steps"]) == (48, 18)
    assert [pooled[name] for name in ("verify_steps", "proposed", "accepted", "truncated_steps")] == [None] * 4
    counters = {tuple(sorted(record["counters"].items())) for record in measured(folder)}
    assert {dict(one)["num_decode_steps"] for one in counters} == {6}


def test_what_it_lacks_is_refused_before_it_starts(command_line: CommandLine) -> None:
    outcome = command_line("engine=tensorrt_llm", "spec=medusa", "spec.draft.path=org/draft", PYTHONPATH=STAND_INS)
    assert outcome.status == 2
    assert outcome.error == (
        "error: spec=medusa: engine=tensorrt_llm has no such method; it has none, ngram, draft_model, eagle3, mtp; "
        "medusa runs on engine=vllm, vllm_server"
    )


def test_the_log_has_the_traceback_of_an_engine_that_does_not_start(command_line: CommandLine) -> None:
    broken = "+engine.extra_args.enable_autotuner=perhaps"
    arguments = [*RUN, "dataset=jsonl", f"dataset.path={command_line.prompts}", broken]
    outcome = command_line(*arguments, PYTHONPATH=STAND_INS)
    assert outcome.status == 1
    assert "did not start: ValidationError: enable_autotuner: Input should be a" in outcome.error
    log = (command_line.folder / "run" / "run.log").read_text()
    assert log.count("Traceback (most recent call last):") == 1
    assert "tests/stand_ins/tensorrt_llm" in log
