"""engine=sglang_server against a server of known counts that runs already, and one that fails on demand."""

import json
from contextlib import AbstractContextManager

import pytest

from specdec_bench.archive import RunDirectory
from specdec_bench.records.request import RequestRecord
from tests.helpers.command_line import CommandLine, Outcome
from tests.helpers.mock_http import steps
from tests.helpers.mock_servers import assert_all_but_one_failed, assert_is_nowhere, assert_refused, serving

KEY = "server-key-5f1d9c"
EXPECTED = (2, 0, 1, 3, 2, 0, 1, 3, 2)
"""Drafts that the steps of a reply of 24 tokens accept."""


def server(fault: str = "", **environment: str) -> AbstractContextManager[str]:
    return serving("mock_generate", fault, **environment)


def measure(command_line: CommandLine, url: str, *overrides: str, **environment: str) -> Outcome:
    sizes = ["dataset.num_prompts=4", "sampling.max_new_tokens=24", "load.concurrency=2", "load.num_warmup=1"]
    experiment = ["engine=sglang_server", f"engine.url={url}", "spec=draft_model", *sizes, "hydra.run.dir=run"]
    return command_line(*experiment, *overrides, **environment)


def finished(command_line: CommandLine) -> tuple[RunDirectory, list[RequestRecord]]:
    run = RunDirectory.open(command_line.folder / "run")
    return run, [record for record in run.requests() if record.phase == "measure"]


def test_counts_are_those_of_the_server(command_line: CommandLine) -> None:
    assert tuple(steps(24)) == EXPECTED
    with server(MOCK_KEY=KEY) as url:
        outcome = measure(command_line, url, "engine.api_key_env=THE_KEY", THE_KEY=KEY)
    assert outcome.status == 0, outcome.stderr
    run, records = finished(command_line)
    assert len(records) >= 4
    for record in records:
        assert record.error is None
        assert record.counters is not None
        assert (record.counters.num_verify_steps, record.counters.num_accepted) == (9, 14)
        assert (record.counters.num_proposed, record.counters.num_decode_steps) == (27, 9)
        assert record.counters.histogram == (2, 2, 3, 2)
        assert [step.num_accepted for step in record.steps] == [0, *EXPECTED]
        assert [step.num_proposed for step in record.steps] == [0] + [3] * 9
        assert [step.num_tokens for step in record.steps] == [1, 3, 1, 2, 4, 3, 1, 2, 4, 3]
        assert record.server_times
        assert (record.server_times.queue_ms, record.server_times.ttft_ms) == (2, 250)
    acceptance = run.summary().acceptance
    assert acceptance.source == "engine_request"
    assert (acceptance.cross_check.difference.verify_steps, acceptance.cross_check.accepted) == (0, None)
    assert acceptance.pooled.acceptance_length == pytest.approx(23 / 9)
    engine = run.manifest().engine
    assert engine.claimed == ("model.path", "spec.draft.path", "model.dtype")
    assert (engine.resolved["sglang"], engine.max_seq_len) == ("0.5.20", 2046)
    assert_is_nowhere(KEY, command_line.folder / "run")


@pytest.mark.parametrize(
    ("fault", "overrides", "words"),
    [
        ("", ["spec.draft_length=5"], "spec.draft_length=5: the server at"),
        ("", ["spec=none"], "drafts by STANDALONE; start one without speculation"),
        ("plain", [], "does not draft"),
        ("no_ids", [], "gives no token ids back"),
        ("interval", [], "the server runs with stream_interval=4; start it with stream_interval=1"),
    ],
)
def test_a_server_that_runs_something_else_is_refused(
    command_line: CommandLine, fault: str, overrides: list[str], words: str
) -> None:
    with server(fault) as url:
        outcome = measure(command_line, url, *overrides)
    assert_refused(outcome, command_line.folder / "run", words)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("error_event", "the server gave the request up: no memory left"),
        ("abort", "the server gave the request up: out of memory"),
        ("cut", "ended the connection in mid-answer"),
        ("no_counts", "gives no counts of the request's drafts"),
        ("contradicts", "contradict each other"),
        ("refuses", "HTTP 400: Requested token count exceeds the context"),
    ],
)
def test_a_request_that_fails_leaves_those_before_it(command_line: CommandLine, fault: str, words: str) -> None:
    """The probe, the warm-up and one request succeed; all others fail."""
    with server(fault) as url:
        outcome = measure(command_line, url, "load.concurrency=1")
    assert outcome.status == 0, outcome.stderr
    assert_all_but_one_failed(command_line.folder / "run", words)


def test_a_server_that_is_gone_ends_the_run_in_one_line(command_line: CommandLine) -> None:
    with server("dies") as url:
        outcome = measure(command_line, url, "load.concurrency=1")
    assert outcome.status == 1
    assert "is gone: the server ended the connection" in outcome.errors[-1]
    lines = (command_line.folder / "run" / "requests.jsonl").read_text().splitlines()
    assert [json.loads(line)["phase"] for line in lines][:2] == ["warmup", "measure"]


@pytest.mark.parametrize("fault", ["cumulative", "keeps_caches"])
def test_a_server_that_distorts_is_noted(command_line: CommandLine, fault: str) -> None:
    with server(fault) as url:
        outcome = measure(command_line, url)
    assert outcome.status == 0, outcome.stderr
    run, records = finished(command_line)
    assert [[step.num_accepted for step in record.steps] for record in records] == [[0, *EXPECTED]] * len(records)
    words = {
        "cumulative": "--incremental-streaming-output",
        "keeps_caches": "cannot be emptied between cells: HTTP 403",
    }
    assert any(words[fault] in warning for warning in run.summary().warnings)


def test_joined_steps_are_known_to_be_joined(command_line: CommandLine) -> None:
    """Two steps in each event: the totals stay exact, and no event is taken for one step."""
    with server("merged") as url:
        outcome = measure(command_line, url)
    assert outcome.status == 0, outcome.stderr
    run, records = finished(command_line)
    for record in records:
        assert record.counters is not None
        assert (record.counters.num_verify_steps, record.counters.num_decode_steps) == (9, 9)
        assert [step.num_tokens for step in record.steps] == [1, 4, 6, 4, 6, 3]
        assert {step.num_accepted for step in record.steps} == {None}
    summary = run.summary()
    assert summary.acceptance.pooled.acceptance_length == pytest.approx(23 / 9)
    assert summary.merged_chunks > 0
