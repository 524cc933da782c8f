"""The real vLLM behind HTTP: the outputs and counts of vLLM in process, and nothing left running."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from specdec_bench.archive import RunDirectory
from specdec_bench.records.request import RequestRecord
from tests.helpers.command_line import ROOT
from tests.helpers.engine_sweeps import COMMON, assert_same_steps, requests, sweep

pytestmark = pytest.mark.timeout(1200)

METHOD = "draft_model"
CELLS = [f"spec={METHOD}", "load.concurrency=1,4", "dataset.num_prompts=6", "engine.max_num_seqs=4"]
EAGER = "engine.enforce_eager=true"  # compiling takes longer than the runs


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> list[RunDirectory]:
    """At 1 and 4 in flight, by one server that the sweep starts."""
    return sweep(tmp_path_factory.mktemp("served"), "engine=vllm_server", EAGER, *COMMON, *CELLS)


@pytest.fixture(scope="module")
def in_process(tmp_path_factory: pytest.TempPathFactory) -> list[RunDirectory]:
    return sweep(tmp_path_factory.mktemp("in_process"), "engine=vllm", EAGER, *COMMON, *CELLS)


def drafts(record: RequestRecord) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    assert record.counters is not None
    return record.counters.per_step_proposed, record.counters.per_step_accepted


def test_outputs_and_counts_are_those_in_process(served: list[RunDirectory], in_process: list[RunDirectory]) -> None:
    for over_http, direct in zip(served, in_process, strict=True):
        found, expected = requests(over_http), requests(direct)
        assert found.keys() == expected.keys()
        for request_id, record in found.items():
            assert record.output_token_ids == expected[request_id].output_token_ids
            assert drafts(record) == drafts(expected[request_id])
            assert_same_steps(record, expected[request_id])
        assert any(record.steps_are_exact for record in found.values()), "unless the server is late"


def test_requests_and_the_servers_counters_agree_exactly(served: list[RunDirectory]) -> None:
    for run in served:
        check = run.summary().acceptance.cross_check
        assert check.verify_steps > 50
        assert (check.difference.verify_steps, check.difference.proposed, check.difference.accepted) == (0, 0, 0)


def test_one_server_serves_the_sweep_and_says_what_it_runs(served: list[RunDirectory]) -> None:
    assert [run.manifest().engine.reused for run in served] == [False, True]
    for run in served:
        engine = run.manifest().engine
        assert engine.resolved["speculative_config"]["num_speculative_tokens"] == 3
        assert (engine.differences, engine.claimed, engine.num_accelerators) == ((), (), 0)
        assert all(record.server_times for record in requests(run).values())


def test_nothing_lives_on_after_the_run_is_killed(tmp_path: Path) -> None:
    """The kill comes while the server starts; by then it has processes of its own, or will have."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), "engine=vllm_server", EAGER, "spec=none", "hydra.run.dir=run"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("VLLM_")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while not (found := [p for p in _descendants(process.pid) if "vllm.entrypoints" in " ".join(_words(p))]):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    started = _descendants(process.pid)
    worker = [p for p in started if "specdec_bench.runner.worker" in _words(p)]
    for killed in (process.pid, *(p.pid for p in worker)):
        os.kill(killed, signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs([*started, *found], timeout=60)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []


def _descendants(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
