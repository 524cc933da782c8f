"""A run that finishes, and runs that fail by themselves."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from specdec_bench.archive import load
from tests.helpers.command_line import CommandLine, measured, read_json, requests


def test_a_finished_run_is_complete(finished_run: Path) -> None:
    files = {"config.yaml", "manifest.json", "prompts.jsonl", "requests.jsonl", "responses.jsonl", "summary.json"}
    assert files | {"run.log", ".hydra"} <= {path.name for path in finished_run.iterdir()}
    assert {path.name for path in (finished_run / ".hydra").iterdir()} == {
        "config.yaml",
        "hydra.yaml",
        "overrides.yaml",
    }
    assert len(list(finished_run.glob("*.png"))) == 3
    assert "engine started" in (finished_run / "run.log").read_text()

    manifest = read_json(finished_run / "manifest.json")
    assert (manifest["status"], manifest["error"]) == ("finished", None)
    assert manifest["config"] == yaml.safe_load((finished_run / "config.yaml").read_text())
    assert manifest["dataset"]["categories"] == {"a": 1, "b": 1}
    assert manifest["engine"]["reused"] is False
    assert "spec=ngram" in manifest["overrides"]


def test_every_turn_is_one_request_and_has_its_response(finished_run: Path) -> None:
    turns = [("one", 0), ("two", 0), ("two", 1)]
    assert sorted((r["prompt_id"], r["turn"]) for r in measured(finished_run)) == turns
    assert sum(r["phase"] == "warmup" for r in requests(finished_run)) == 1
    responses = [line for line in (finished_run / "responses.jsonl").read_text().splitlines() if line]
    assert len(responses) == 3


def test_the_summary_is_what_the_requests_say(finished_run: Path) -> None:
    records = measured(finished_run)
    decode_steps = [len(r["steps"]) - 1 for r in records]
    decoded = [len(r["output_token_ids"]) - 1 for r in records]
    accepted = [s["num_accepted"] for r in records for s in r["steps"][1:] if s["num_proposed"]]
    proposed = [s["num_proposed"] for r in records for s in r["steps"][1:]]
    assert decoded == [31, 31, 31]

    summary = read_json(finished_run / "summary.json")
    assert summary["requests"] == {
        "finished": 3, "failed": 0, "skipped": 0, "interrupted": 0, "warmup": 1, "conversations": 2,
        "skipped_prompts": [],
        "preempted": None,
        "preemptions": None,
    }  # fmt: skip
    pooled, macro = summary["acceptance"]["pooled"], summary["acceptance"]["macro"]
    assert pooled["acceptance_length"] == sum(decoded) / sum(decode_steps)
    assert macro["acceptance_length"] == sum(d / s for d, s in zip(decoded, decode_steps, strict=True)) / 3
    assert pooled["acceptance_length_drafted"] == 1 + sum(accepted) / len(accepted)
    assert pooled["draft_acceptance_rate"] == sum(accepted) / sum(proposed)
    assert pooled["acceptance_histogram"] == [accepted.count(number) for number in range(4)]
    sent, last = min(r["sent_ns"] for r in records), max(r["steps"][-1]["received_ns"] for r in records)
    assert summary["throughput"]["output_tps"] == pytest.approx(96 / ((last - sent) / 1e9))
    assert (summary["status"], summary["partial"]) == ("finished", False)
    assert summary["synthetic"].startswith("synthetic engine")


def test_the_archive_loads_as_one_row_a_request(finished_run: Path) -> None:
    frame = load(finished_run)
    rows = frame[frame["phase"] == "measure"]
    assert len(frame) == 4
    assert len(rows) == 3
    assert set(rows["spec"]) == {"ngram"}
    by_hand = {
        r["request_id"]: (len(r["output_token_ids"]) - 1) / (len(r["steps"]) - 1) for r in measured(finished_run)
    }
    assert dict(zip(rows["request_id"], rows["acceptance_length"], strict=True)) == by_hand


def test_the_table_is_whole_where_there_is_no_terminal(command_line: CommandLine) -> None:
    outcome = command_line.measure(
        "sampling.max_new_tokens=9", "spec.draft_length=7", "engine.acceptance_rates=[1.0]", "load.num_warmup=0"
    )
    assert outcome.status == 0
    assert "…" not in outcome.stdout
    # The prefill's token, then one step of 7 accepted drafts and the target's own token.
    (total,) = [line.split() for line in outcome.stdout.splitlines() if line.split()[:1] == ["all"]]
    assert total == ["all", "3", "8.000", "8.000", "8.000", "1.000", *["1.000"] * 7]
    (run,) = command_line.folder.glob("outputs/*/*")
    assert f"run directory  {run}" in outcome.stdout


def failed_run(command_line: CommandLine, *overrides: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Returns the line of a run that fails, its manifest and its summary."""
    outcome = command_line.measure("hydra.run.dir=run", "sampling.max_new_tokens=9", *overrides)
    assert outcome.status == 1
    run = command_line.folder / "run"
    manifest, summary = read_json(run / "manifest.json"), read_json(run / "summary.json")
    assert (manifest["status"], summary["status"], summary["partial"]) == ("failed", "failed", True)
    return outcome.error, manifest, summary


def test_a_run_without_a_finished_request_failed(command_line: CommandLine) -> None:
    error, manifest, summary = failed_run(command_line, "engine.fail_every=1")
    reason = "no request finished: 2 failed, the first because: synthetic failure: engine.fail_every=1"
    assert error == f"error: {reason}"
    assert manifest["error"] == reason
    # A conversation ends at its first failure.
    assert (summary["requests"]["finished"], summary["requests"]["failed"]) == (0, 2)
    assert summary["acceptance"]["pooled"]["acceptance_length"] is None


def test_a_run_of_which_all_was_skipped_says_so(command_line: CommandLine) -> None:
    error, manifest, summary = failed_run(command_line, "model.max_seq_len=9")
    assert "all 2 requests were skipped" in error
    assert "prompt of 2 and 9 new tokens exceed max_seq_len=9" in error
    assert "raise model.max_seq_len" in error
    assert error == f"error: {manifest['error']}"
    assert (summary["requests"]["failed"], summary["requests"]["skipped"]) == (0, 2)


def test_an_engine_that_dies_leaves_what_finished(command_line: CommandLine) -> None:
    # The warm-up and 40 requests come through, of 60; the process dies within the next one.
    error, manifest, summary = failed_run(command_line, "engine.crash_after=41", "load.repeats=20")
    assert error.startswith("error: the measuring process was killed by SIGKILL")
    assert error == f"error: {manifest['error']}"
    # The last ones may still have been on their way to the disk.
    num_finished = len(measured(command_line.folder / "run"))
    assert 1 <= num_finished <= 40
    assert summary["requests"]["finished"] == num_finished
    assert summary["acceptance"]["pooled"]["output_tokens"] == num_finished * 9


def test_an_engine_s_message_is_archived_without_the_secrets_in_it(command_line: CommandLine) -> None:
    # "fail_every" is the password here, and stands in the message "synthetic failure: engine.fail_every=1".
    _, manifest, _ = failed_run(command_line, "engine.fail_every=1", "+model.chat_template_kwargs.password=fail_every")
    assert manifest["error"].endswith("synthetic failure: engine.[redacted]=1")
    messages = {r["error"]["message"] for r in requests(command_line.folder / "run")}
    assert messages == {"synthetic failure: engine.[redacted]=1"}


def test_an_interpolation_is_archived_as_it_was_given(command_line: CommandLine, prompts: Path) -> None:
    given = "dataset.path=${oc.env:PROMPTS}"
    arguments = ["engine=synthetic", "dataset=jsonl", given, "engine.fail_every=1", "hydra.run.dir=run"]
    command_line(*arguments, PROMPTS=str(prompts))
    manifest = read_json(command_line.folder / "run" / "manifest.json")
    assert given in manifest["overrides"]
    assert manifest["config"]["dataset"]["path"] == str(prompts)


def test_a_run_that_cannot_be_compared_says_why_at_its_end(command_line: CommandLine) -> None:
    said = command_line.measure("hydra.run.dir=run", "expected.acceptance_length_drafted=2")
    reason = "the run is not of a real model"
    assert said.stdout.splitlines()[-1].startswith(f"against the expected values  not compared: {reason}")
    checked = command_line("check", "run")
    assert checked.status == 2
    assert checked.error.startswith(f"error: {reason}")
    nowhere = command_line("check", "nowhere")
    assert nowhere.status == 2
    assert nowhere.error.startswith("error: nowhere: ")
