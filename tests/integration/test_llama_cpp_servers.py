"""engine=llama_cpp_server against a server of known counts: started by the run, running already, failing on demand."""

import json
import shutil
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from specdec_bench.archive import RunDirectory
from specdec_bench.config.checkpoints import ASSETS
from specdec_bench.records.request import RequestRecord
from tests.helpers.command_line import ROOT, CommandLine, Outcome
from tests.helpers.mock_completions import steps
from tests.helpers.mock_servers import assert_is_nowhere, serving

KEY = "server-key-5f1d9c"
EXPECTED = (2, 0, 1, 3, 2, 0, 1, 3, 2)
"""Drafts that the steps of a reply of 24 tokens accept. The last one's third token is beyond the limit."""
SIZES = ["dataset.num_prompts=4", "sampling.max_new_tokens=24", "load.concurrency=2", "load.num_warmup=1"]
EXPERIMENT = ["engine=llama_cpp_server", "spec=draft_model", "model.dtype=auto", *SIZES, "hydra.run.dir=run"]


def server(fault: str = "", **environment: str) -> AbstractContextManager[str]:
    return serving("mock_llama_cpp", fault, **environment)


def measure(command_line: CommandLine, url: str, *overrides: str, **environment: str) -> Outcome:
    return command_line(*EXPERIMENT, f"engine.url={url}", *overrides, **environment)


def finished(command_line: CommandLine) -> tuple[RunDirectory, list[RequestRecord]]:
    run = RunDirectory.open(command_line.folder / "run")
    return run, [record for record in run.requests() if record.phase == "measure"]


def assert_counts_are_exact(run: RunDirectory, records: list[RequestRecord]) -> None:
    assert tuple(steps(24)) == EXPECTED
    assert len(records) >= 4
    for record in records:
        assert record.error is None
        assert record.counters is not None
        assert (record.counters.num_verify_steps, record.counters.num_accepted) == (9, 14)
        assert (record.counters.num_proposed, record.counters.num_decode_steps) == (27, 9)
        assert record.counters.per_step_accepted == EXPECTED
        assert record.counters.histogram == (2, 2, 3, 2)
        assert [step.num_accepted for step in record.steps] == [0, *EXPECTED]
        assert [step.num_tokens for step in record.steps] == [1, 3, 1, 2, 4, 3, 1, 2, 4, 3]
        assert record.steps_are_exact
        assert record.server_times
        assert (record.server_times.queue_ms, record.server_times.ttft_ms) == (None, 12.5)
    acceptance = run.summary().acceptance
    assert acceptance.source == "engine_request"
    difference = acceptance.cross_check.difference
    assert (difference.verify_steps, difference.proposed, difference.accepted) == (0, 0, 0)
    assert acceptance.pooled.acceptance_length == pytest.approx(23 / 9)


def test_a_server_that_runs_already(command_line: CommandLine) -> None:
    with server(LLAMA_API_KEY=KEY) as url:
        outcome = measure(command_line, url, "engine.api_key_env=THE_KEY", THE_KEY=KEY)
    assert outcome.status == 0, outcome.stderr
    run, records = finished(command_line)
    assert_counts_are_exact(run, records)
    engine = run.manifest().engine
    claimed = ("model.path", "spec.draft.path", "spec_draft_n_min=0", "spec_draft_p_min=0")
    assert engine.claimed == claimed
    assert engine.resolved["speculative.types"] == "none,draft-simple"
    assert_is_nowhere(KEY, command_line.folder / "run")


def test_a_server_that_the_run_starts(command_line: CommandLine, tmp_path: Path) -> None:
    """The target and the draft are folders with a GGUF file beside config.json and the tokenizer."""
    for name in ("target", "draft"):
        shutil.copytree(ASSETS / "tiny" / name, tmp_path / name)
        (tmp_path / name / f"{name}.gguf").touch()
    program = tmp_path / "llama-server"
    program.write_text(f'#!/bin/sh\ncd {ROOT}\nexec {sys.executable} -m tests.helpers.mock_llama_cpp "$@"\n')
    program.chmod(0o755)
    models = ["model.max_seq_len=512", f"model.path={tmp_path}/target", f"spec.draft.path={tmp_path}/draft"]
    outcome = command_line(*EXPERIMENT, f"engine.binary={program}", *models)
    assert outcome.status == 0, outcome.stderr
    run, records = finished(command_line)
    assert_counts_are_exact(run, records)
    engine = run.manifest().engine
    assert engine.arguments["ctx_size"] == 1024
    assert engine.arguments["spec_draft_model"] == f"{tmp_path}/draft/draft.gguf"
    assert (engine.claimed, engine.max_seq_len, engine.num_accelerators) == ((), 512, 0)


@pytest.mark.parametrize(
    ("fault", "overrides", "words"),
    [
        ("", ["spec.draft_length=5"], "spec.draft_length=5: the server at"),
        ("no_ids", [], "gives no token ids back"),
        ("", ["model.dtype=float32"], "pass model.dtype=auto"),
        ("", ["+engine.extra_args.flash_attn=on"], "is for a server that the run starts"),
    ],
)
def test_a_server_that_runs_something_else_is_refused(
    command_line: CommandLine, fault: str, overrides: list[str], words: str
) -> None:
    with server(fault) as url:
        outcome = measure(command_line, url, *overrides)
    assert outcome.status == 2
    assert words in outcome.error
    assert not (command_line.folder / "run" / "requests.jsonl").exists()


def test_a_program_that_is_missing_is_refused(command_line: CommandLine) -> None:
    outcome = command_line(*EXPERIMENT, "engine.binary=/nowhere/llama-server")
    assert outcome.status == 2
    assert "engine.binary=/nowhere/llama-server: cannot be run" in outcome.error


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("error_event", "the server gave the request up: no memory left"),
        ("cut", "ended the connection in mid-answer"),
        ("lost_ids", "left out the ids of 1 tokens"),
        ("refuses", "HTTP 400: request exceeds the available context size"),
    ],
)
def test_a_request_that_fails_leaves_those_before_it(command_line: CommandLine, fault: str, words: str) -> None:
    """The probe, the warm-up and one request succeed; all others fail."""
    with server(fault) as url:
        outcome = measure(command_line, url, "load.concurrency=1")
    assert outcome.status == 0, outcome.stderr
    _, records = finished(command_line)
    failed = [record.error.message for record in records if record.error is not None]
    assert len(records) - len(failed) == 1
    assert failed
    assert all(words in message for message in failed)


def test_a_server_that_is_gone_ends_the_run_in_one_line(command_line: CommandLine) -> None:
    with server("dies") as url:
        outcome = measure(command_line, url, "load.concurrency=1")
    assert outcome.status == 1
    assert "is gone: the server ended the connection" in outcome.errors[-1]
    lines = (command_line.folder / "run" / "requests.jsonl").read_text().splitlines()
    assert [json.loads(line)["phase"] for line in lines][:2] == ["warmup", "measure"]


def test_a_server_without_counters_is_noted(command_line: CommandLine) -> None:
    with server("no_metrics") as url:
        outcome = measure(command_line, url)
    assert outcome.status == 0, outcome.stderr
    run, records = finished(command_line)
    assert [[step.num_accepted for step in record.steps] for record in records] == [[0, *EXPECTED]] * len(records)
    assert any("start it with --metrics" in warning for warning in run.summary().warnings)
    assert run.summary().acceptance.cross_check is None
    assert "spec.draft_length" in run.manifest().engine.claimed
