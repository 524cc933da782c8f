"""engine=vllm_server against a server of known counts that runs already, and one that fails on demand."""

import json
import shutil
from contextlib import AbstractContextManager

import pytest

from specdec_bench.archive import RunDirectory
from tests.helpers.command_line import CommandLine, Outcome
from tests.helpers.mock_http import steps
from tests.helpers.mock_servers import assert_all_but_one_failed, assert_is_nowhere, assert_refused, serving

KEY = "server-key-5f1d9c"


def server(fault: str = "", **environment: str) -> AbstractContextManager[str]:
    return serving("mock_completions", fault, **{"MOCK_MODEL": "target"} | environment)


def measure(command_line: CommandLine, url: str, *overrides: str, **environment: str) -> Outcome:
    sizes = ["dataset.num_prompts=4", "sampling.max_new_tokens=24", "load.concurrency=2", "load.num_warmup=1"]
    experiment = ["engine=vllm_server", f"engine.url={url}", "spec=draft_model", *sizes, "hydra.run.dir=run"]
    return command_line(*experiment, *overrides, **environment)


def test_counts_are_those_of_the_server(command_line: CommandLine) -> None:
    """24 tokens are the prefill's and steps that accept 2, 0, 1, 3 drafts, again and again: 2+0+1+3 makes 10 tokens."""
    with server(MOCK_KEY=KEY) as url:
        own = ["engine.api_key_env=THE_KEY", "+engine.extra_args.block_size=16"]
        outcome = measure(command_line, url, *own, THE_KEY=KEY)
    assert outcome.status == 0, outcome.stderr
    run = RunDirectory.open(command_line.folder / "run")
    records = [record for record in run.requests() if record.phase == "measure"]
    expected = tuple(steps(24))
    assert expected == (2, 0, 1, 3, 2, 0, 1, 3, 2)
    for record in records:
        assert record.error is None
        assert record.counters is not None
        assert record.counters.per_step_accepted == expected
        assert [step.num_accepted for step in record.steps] == [0, *expected]
        assert [step.num_tokens for step in record.steps] == [1, 3, 1, 2, 4, 3, 1, 2, 4, 3]
    acceptance = run.summary().acceptance
    assert acceptance.source == "engine_request"
    assert acceptance.cross_check.difference.verify_steps == 0
    assert acceptance.cross_check.difference.accepted == 0
    assert acceptance.pooled.acceptance_length == pytest.approx(23 / 9)
    claimed = run.manifest().engine.claimed
    assert {"spec", "model.path", "model.dtype", "engine.extra_args.block_size"} <= set(claimed)
    assert "spec.draft_length" not in claimed
    assert_is_nowhere(KEY, command_line.folder / "run")


@pytest.mark.parametrize(
    ("fault", "overrides", "words"),
    [
        ("", ["spec.draft_length=5"], "spec.draft_length=5: the server drafts 3 tokens; set spec.draft_length=3"),
        ("", ["spec=none"], "spec=none: the server at"),
        ("", ["model.max_seq_len=4096"], "model.max_seq_len=4096: the server's is 2048"),
        ("", ["engine.api_key_env=NOT_SET"], "engine.api_key_env=NOT_SET: there is no such environment variable"),
        ("plain", [], "spec=draft_model: the server at"),
        ("no_ids", [], "gives no token ids back"),
    ],
)
def test_a_server_that_runs_something_else_is_refused(
    command_line: CommandLine, fault: str, overrides: list[str], words: str
) -> None:
    with server(fault) as url:
        outcome = measure(command_line, url, *overrides)
    assert_refused(outcome, command_line.folder / "run", words)


def test_a_server_that_is_not_there_is_refused(command_line: CommandLine) -> None:
    outcome = measure(command_line, "http://127.0.0.1:9")
    assert outcome.status == 2
    assert "engine.url=http://127.0.0.1:9: no connection" in outcome.error


def test_a_key_that_the_server_wants_is_asked_for(command_line: CommandLine) -> None:
    with server(MOCK_KEY=KEY) as url:
        outcome = measure(command_line, url)
    assert (outcome.status, "name its variable in engine.api_key_env" in outcome.error) == (2, True)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("error_event", "EngineCore encountered an issue"),
        ("cut", "ended the connection in mid-answer"),
        ("no_usage", "without the event that counts its tokens"),
        ("garbage", "not HTTP/1.1"),
        ("redirect", "redirects are not followed"),
        ("refuses", "HTTP 400: the prompt is too long"),
    ],
)
def test_a_request_that_fails_leaves_those_before_it(command_line: CommandLine, fault: str, words: str) -> None:
    """The probe, the warm-up and one request succeed; all others fail."""
    with server(fault) as url:
        outcome = measure(command_line, url, "load.concurrency=1")
    assert outcome.status == 0, outcome.stderr
    assert_all_but_one_failed(command_line.folder / "run", words)


@pytest.mark.parametrize(
    ("fault", "words"), [("dies", "is gone: the server ended the connection"), ("freezes", "gave no token for 2 s")]
)
def test_a_server_that_is_gone_ends_the_run_in_one_line(command_line: CommandLine, fault: str, words: str) -> None:
    with server(fault) as url:
        outcome = measure(command_line, url, "load.concurrency=1", "engine.stall_timeout_s=2")
    assert outcome.status == 1
    assert words in outcome.errors[-1]
    lines = (command_line.folder / "run" / "requests.jsonl").read_text().splitlines()
    assert [json.loads(line)["phase"] for line in lines][:2] == ["warmup", "measure"]


def test_counts_in_total_are_labelled(command_line: CommandLine) -> None:
    with server("no_counts") as url:
        outcome = measure(command_line, url)
    assert outcome.status == 0, outcome.stderr
    assert "start it with --per-request-spec-decode-metrics detailed" in " ".join(outcome.stdout.split())
    acceptance = RunDirectory.open(command_line.folder / "run").summary().acceptance
    assert acceptance.source == "engine_total"
    assert acceptance.pooled.acceptance_length_drafted == pytest.approx(1 + 14 / 9)


def test_a_grid_over_servers_runs_through_a_launcher(command_line: CommandLine) -> None:
    """One at a time: the cells share two servers, one for the method and one for its baseline."""
    sweep = command_line.folder / "sweep"
    grid = ["-m", "hydra/launcher=joblib_workers", "hydra.sweeper.max_batch_size=1", "hydra.sweep.dir=sweep"]
    axes = ["spec=draft_model", "load.concurrency=1,2", "baseline=auto", "engine.api_key_env=THE_KEY"]
    sizes = ["dataset.num_prompts=4", "sampling.max_new_tokens=24", "load.num_warmup=1"]
    with server(MOCK_KEY=KEY) as url, server("plain", MOCK_KEY=KEY) as plain:
        attached = ["engine=vllm_server", f"engine.url={url}", f"engine.baseline_url={plain}"]
        outcome = command_line(*grid, *attached, *axes, *sizes, THE_KEY=KEY)
    assert outcome.status == 0, outcome.stderr
    runs = [RunDirectory.open(sweep / str(number)) for number in range(4)]
    assert [run.manifest().engine.arguments for run in runs] == [{"url": url}] * 2 + [{"url": plain}] * 2
    assert [run.manifest().engine.reused for run in runs] == [False] * 4
    for run in runs[:2]:
        acceptance = run.summary().acceptance
        assert acceptance.cross_check is not None
        assert acceptance.cross_check.difference.verify_steps == 0
        assert acceptance.pooled.acceptance_length == pytest.approx(23 / 9)
    assert [run.summary().acceptance.pooled.acceptance_length for run in runs[2:]] == [1, 1]
    assert_is_nowhere(KEY, sweep)
    # What is left decides: the two of one server may not run side by side, and one alone may run as it likes.
    at_once = ["resume=sweep", "hydra.sweeper.max_batch_size=null", "--dry-run"]
    for number, (status, words) in ((1, (0, "4 cells, 3 done")), (0, (2, "would run 2 cells on this server"))):
        shutil.rmtree(sweep / str(number))
        outcome = command_line(*at_once, THE_KEY=KEY)
        assert outcome.status == status, outcome.stderr
        assert words in outcome.stdout + outcome.stderr
