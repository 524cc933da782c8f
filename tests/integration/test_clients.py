"""load.clients: several processes send the requests of one schedule to a server, into one archive."""

import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from specdec_bench.archive import RunDirectory
from specdec_bench.records.request import RequestRecord
from tests.helpers.command_line import (
    CommandLine,
    Running,
    children,
    command,
    is_alive,
    measured,
    read_json,
    requests,
    wait_until,
)
from tests.helpers.mock_servers import assert_is_nowhere, serving

KEY = "server-key-0c7e41"
LONG = ["sampling.max_new_tokens=8", "load.repeats=100000", "load.concurrency=6", "load.clients=3"]
"""Several 100,000 short requests: it ends only because it is ended."""


def server(fault: str = "") -> AbstractContextManager[str]:
    return serving("mock_completions", fault, MOCK_MODEL="target", MOCK_KEY=KEY)


@pytest.fixture
def single_turns(command_line: CommandLine) -> CommandLine:
    """With a file of prompts of one turn: clients then load no tokenizer."""
    prompts = command_line.folder.parent / "single.jsonl"
    prompts.write_text("".join(f'{{"prompt_id": "p{n}", "prompt": "hi {n}"}}\n' for n in range(5)), encoding="utf-8")
    return CommandLine(command_line.folder, {**command_line.environment, "THE_KEY": KEY}, prompts)


def experiment(command_line: CommandLine, url: str) -> list[str]:
    served = ["engine=vllm_server", f"engine.url={url}", "engine.api_key_env=THE_KEY", "spec=draft_model"]
    return [*served, "dataset=jsonl", f"dataset.path={command_line.prompts}", "hydra.run.dir=run"]


def measure(command_line: CommandLine, url: str, *overrides: str) -> tuple[RunDirectory, dict[str, RequestRecord]]:
    """Runs a cell to its end; returns it with its measured requests by id."""
    folder = f"run{len(list(command_line.folder.glob('run*')))}"
    outcome = command_line(*experiment(command_line, url), *overrides, f"hydra.run.dir={folder}", THE_KEY=KEY)
    assert outcome.status == 0, outcome.stderr
    run = RunDirectory.open(command_line.folder / folder)
    records = [record for record in run.requests() if record.phase == "measure"]
    by_id = {record.request_id: record for record in records}
    assert len(by_id) == len(records), "a request is there twice"
    return run, by_id


def due_after_first_ns(records: dict[str, RequestRecord]) -> dict[str, int]:
    """When each conversation was due, from when the first was."""
    first_turns = {name: record.scheduled_ns for name, record in records.items() if record.turn == 0}
    return {name: due_ns - min(first_turns.values()) for name, due_ns in first_turns.items()}


def assert_sends_what_one_sends(
    run: RunDirectory, records: dict[str, RequestRecord], of_one: dict[str, RequestRecord]
) -> None:
    """The run of three clients has the requests of the run of one, and the server counted what they had."""
    assert records.keys() == of_one.keys()
    for record in records.values():
        assert record.error is None
        one = of_one[record.request_id]
        for name in ("prompt_token_ids", "output_token_ids", "counters", "seed", "acceptance_source", "repeat"):
            assert getattr(record, name) == getattr(one, name), name
    summary = run.summary()
    assert summary.acceptance.source == "engine_request"
    assert summary.acceptance.cross_check.difference.verify_steps == 0
    assert summary.acceptance.cross_check.difference.accepted == 0
    assert run.manifest().num_clients == 3
    assert load_of(run)["clients"] == "3"


def load_of(run: RunDirectory) -> dict[str, Any]:
    load = run.manifest().config["load"]
    assert isinstance(load, dict)
    return load


def test_three_clients_send_what_one_sends(command_line: CommandLine) -> None:
    """The two conversations have one turn and two; 8 conversations are 12 requests."""
    with server() as url:
        sizes = ["load.concurrency=4", "load.repeats=4", "sampling.max_new_tokens=24", "load.num_warmup=1"]
        _, of_one = measure(command_line, url, *sizes)
        run, records = measure(command_line, url, *sizes, "load.clients=3")
    assert len(records) == 12
    assert_sends_what_one_sends(run, records, of_one)
    assert_is_nowhere(KEY, command_line.folder)


def test_arrivals_of_three_clients_are_due_when_those_of_one_are(single_turns: CommandLine) -> None:
    """auto stands for one client here, and is archived as it was asked for."""
    with server() as url:
        sizes = ["load=poisson", "load.rate=40", "load.num_conversations=8", "load.max_in_flight=7"]
        alone, of_one = measure(single_turns, url, *sizes, "sampling.max_new_tokens=24", "load.clients=auto")
        run, records = measure(single_turns, url, *sizes, "sampling.max_new_tokens=24", "load.clients=3")
    assert len(records) == 8
    assert_sends_what_one_sends(run, records, of_one)
    assert due_after_first_ns(records) == due_after_first_ns(of_one)
    assert len(set(due_after_first_ns(records).values())) == 8
    assert (load_of(alone)["clients"], alone.manifest().num_clients) == ("auto", 1)


def clients_of(running: Running) -> list[int]:
    pids = [pid for worker in running.measuring_processes() for pid in children(worker)]
    return [pid for pid in pids if b"specdec_bench.runner.client" in command(pid)]


def end_early(
    command_line: CommandLine, strike: Callable[[Running, list[int]], Any], fault: str = "", *overrides: str
) -> tuple[int, str, Path]:
    """Runs three clients, ends the run by what `strike` does to it, and checks that none of them is left.

    Returns:
        The exit status, stderr and the run's folder.
    """
    folder = command_line.folder / "run"
    with server(fault) as url, command_line.started(*experiment(command_line, url), *LONG, *overrides) as running:
        wait_until(lambda: len(measured(folder)) >= 12 or running.process.poll() is not None)
        clients = clients_of(running)
        if not fault:
            assert len(clients) == 3
            assert not any(KEY.encode() in command(pid) for pid in clients)
            strike(running, clients)
        outcome = running.end()
        wait_until(lambda: not any(is_alive(pid) for pid in clients))
    return outcome.status, outcome.stderr, folder


@pytest.mark.parametrize(
    ("strike", "how"),
    [
        (signal.SIGKILL, "was killed by SIGKILL (out of memory?)"),
        (signal.SIGSTOP, "has stopped: it reported nothing for 2 s, half of engine.stall_timeout_s"),
    ],
)
def test_a_client_that_is_killed_or_frozen_ends_the_run_in_one_line(
    single_turns: CommandLine, strike: signal.Signals, how: str
) -> None:
    """The others go on: without a bound, a frozen one would be waited for until all that they can send is sent."""
    status, stderr, folder = end_early(
        single_turns, lambda _, clients: os.kill(clients[1], strike), "", "engine.stall_timeout_s=4"
    )
    assert status == 1
    (error,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert f"client 2 of 3 {how}; what it had in flight is lost" in error
    assert read_json(folder / "manifest.json")["status"] == "failed"
    assert read_json(folder / "summary.json")["requests"]["finished"] == len(measured(folder)) >= 12
    # The others have recorded what they had in flight: two requests each.
    assert 0 < len([r for r in requests(folder) if (r.get("error") or {}).get("kind") == "interrupted"]) <= 4


def test_an_interrupted_run_keeps_what_all_clients_have(single_turns: CommandLine) -> None:
    status, stderr, folder = end_early(single_turns, lambda running, _: running.interrupt())
    assert status == 130, stderr
    assert read_json(folder / "manifest.json")["status"] == "interrupted"
    assert read_json(folder / "summary.json")["requests"]["finished"] == len(measured(folder)) >= 12
    assert 0 < len([r for r in requests(folder) if (r.get("error") or {}).get("kind") == "interrupted"]) <= 6


def test_no_client_outlives_the_measuring_process(single_turns: CommandLine) -> None:
    status, stderr, _ = end_early(single_turns, lambda running, _: os.kill(running.measuring_process(), signal.SIGKILL))
    assert status == 1
    assert "the measuring process was killed by SIGKILL" in stderr


def test_a_server_that_is_gone_ends_all_clients_in_one_line(single_turns: CommandLine) -> None:
    """It dies at its fourth request, the second that a client sends."""
    status, stderr, folder = end_early(single_turns, lambda *_: None, "dies")
    assert status == 1
    (error,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert "is gone: " in error
    assert read_json(folder / "manifest.json")["status"] == "failed"
    assert [record["phase"] for record in requests(folder)][:2] == ["warmup", "measure"]
