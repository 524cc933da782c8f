"""The real vLLM failing: one clear line, what finished is kept, and the next cell starts a fresh engine."""

import shutil
from pathlib import Path

import pytest

from specdec_bench.archive import RunDirectory
from specdec_bench.config.checkpoints import resolve
from tests.helpers.engine_runs import DRAFT
from tests.helpers.engine_sweeps import assert_a_killed_engine_ends_its_cell_alone, command_line, error_line, requests

VLLM = ["engine=vllm", "engine.enforce_eager=true"]

pytestmark = pytest.mark.timeout(1200)


def test_an_engine_core_that_is_killed_ends_its_cell_alone(tmp_path: Path) -> None:
    assert_a_killed_engine_ends_its_cell_alone(
        tmp_path, *VLLM, process_name="VLLM::EngineCor", words="engine core died"
    )


@pytest.mark.parametrize(
    ("overrides", "status", "words"),
    [
        (["+engine.extra_args.swap_spaec=1"], 2, "engine.extra_args.swap_spaec: vLLM"),
        (["+engine.extra_args.max_model_len=1"], 2, "use model.max_seq_len"),
        (
            ["sampling=sampled", "sampling.temperature=0.001"],
            2,
            "sampling.temperature=0.001: engine=vllm makes it 0.01",
        ),
        (["model.max_seq_len=100000"], 2, "the model has positions for 8192 tokens"),
        (["model.path=nowhere/at/all"], 2, "model.path=nowhere/at/all: no such folder"),
        (["spec=draft_model", "spec.draft.path=wider"], 2, "its vocabulary has 4096 tokens, the target's 2048"),
        # The reason is in no exception of this process: vLLM's worker printed it.
        (["engine.cpu_kv_cache_gib=60000"], 1, "the first failure in run.log: ValueError: Available memory"),
    ],
)
def test_what_vllm_cannot_run_is_one_line(tmp_path: Path, overrides: list[str], status: int, words: str) -> None:
    wider = tmp_path / "wider"
    shutil.copytree(resolve(DRAFT), wider)
    config = (wider / "config.json").read_text()
    (wider / "config.json").write_text(config.replace('"vocab_size": 2048', '"vocab_size": 4096'))
    done = command_line(tmp_path, *VLLM, "spec=none", *overrides)
    assert done.returncode == status
    assert words in error_line(done.stderr)


def test_prompts_beyond_the_context_are_skipped_and_requests_beyond_the_cache_put_off_and_counted(
    tmp_path: Path,
) -> None:
    """Four requests of more than one block of 128 tokens at a time, in a cache of five blocks."""
    limits = ["model.max_seq_len=160", "sampling.max_new_tokens=64", "dataset.num_prompts=10"]
    crowd = ["load.concurrency=4", "sampling.ignore_eos=true", "+engine.extra_args.num_gpu_blocks_override=6"]
    done = command_line(tmp_path, *VLLM, "spec=none", *limits, *crowd, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr[-2000:]
    run = RunDirectory.open(tmp_path / "run")
    records = list(requests(run).values())
    too_long = [len(record.prompt_token_ids) + 64 > 160 for record in records]
    assert any(too_long)
    assert [record.error is not None and record.error.kind == "context_overflow" for record in records] == too_long
    outcomes = run.summary().requests
    assert (outcomes.finished, outcomes.skipped) == (too_long.count(False), too_long.count(True))
    named = [record.prompt_id for record, is_long in zip(records, too_long, strict=True) if is_long]
    assert sorted(outcomes.skipped_prompts) == sorted(named)
    preemptions = [record.num_preemptions for record in records if record.error is None]
    assert sum(preemptions) >= 1
    assert (outcomes.preempted, outcomes.preemptions) == (sum(n > 0 for n in preemptions), sum(preemptions))
    assert "PREEMPTED: " in done.stdout
    assert run.manifest().engine.differences == ()
