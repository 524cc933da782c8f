"""Killed or stopped from outside, a run keeps what it has, says how it ended, and leaves no process."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from specdec_bench.archive import RunDirectory
from tests.helpers.command_line import CommandLine, Running, is_alive, measured, read_json, wait_until

LONG = ["sampling.max_new_tokens=4", "load.repeats=1000000"]
"""Millions of short requests: it ends only because it is ended."""


def wait_for_requests(run: Path, number: int = 5) -> None:
    wait_until(lambda: len(measured(run)) >= number)


def assert_partial(run: Path, status: str) -> None:
    """The manifest tells how it ended, and what finished is kept and summarized."""
    manifest, summary = read_json(run / "manifest.json"), read_json(run / "summary.json")
    assert (manifest["status"], summary["status"], summary["partial"]) == (status, status, True)
    assert manifest["finished_utc"] is not None
    assert summary["requests"]["finished"] == len(measured(run)) >= 5
    assert summary["acceptance"]["pooled"]["output_tokens"] == 4 * len(measured(run))


def test_the_measuring_process_is_killed(command_line: CommandLine) -> None:
    run = command_line.folder / "run"
    with command_line.started(*command_line.experiment, *LONG, "hydra.run.dir=run") as running:
        wait_for_requests(run)
        os.kill(running.measuring_process(), signal.SIGKILL)
        outcome = running.end()
    assert outcome.status == 1
    assert "the measuring process was killed by SIGKILL" in outcome.error
    assert_partial(run, "failed")
    assert "was killed by SIGKILL" in read_json(run / "manifest.json")["error"]
    assert "PARTIAL RUN: status failed" in outcome.stdout


def test_the_parent_is_killed(command_line: CommandLine) -> None:
    run = command_line.folder / "run"
    with command_line.started(*command_line.experiment, *LONG, "hydra.run.dir=run") as running:
        wait_for_requests(run)
        child = running.measuring_process()
        running.process.kill()
        running.end()
        wait_until(lambda: not is_alive(child))
    # Nobody was left to write more, and the project's own reader takes it as it is.
    archived = RunDirectory.open(run)
    assert archived.manifest().status == "started"
    assert len([r for r in archived.requests() if r.phase == "measure"]) == len(measured(run)) >= 5


def press_ctrl_c(running: Running) -> None:
    running.interrupt()


def terminate(running: Running) -> None:
    running.process.terminate()


def hang_up(running: Running) -> None:
    """Closes the terminal."""
    os.killpg(running.process.pid, signal.SIGHUP)


@pytest.mark.parametrize("stop", [press_ctrl_c, terminate, hang_up])
def test_a_run_is_stopped(command_line: CommandLine, stop: Callable[[Running], None]) -> None:
    """Here the first of a sweep: the others do not start."""
    sweep = command_line.folder / "sweep"
    # Slow requests, so that one is in flight whenever the signal comes.
    slow = ["engine.ttft_ms=200", "engine.step_time_ms=50"]
    arguments = ["-m", *command_line.experiment, *LONG, *slow, "seed=1,2", f"hydra.sweep.dir={sweep}"]
    with command_line.started(*arguments) as running:
        wait_for_requests(sweep / "0")
        child = running.measuring_process()
        stop(running)
        outcome = running.end()
        assert not is_alive(child)
    assert outcome.status == 130
    assert outcome.error == f"error: interrupted; resume={sweep} runs what is not finished"
    assert_partial(sweep / "0", "interrupted")
    # What was in flight is kept too, as what it is.
    assert read_json(sweep / "0" / "summary.json")["requests"]["interrupted"] == 1
    assert len((sweep / "0" / "responses.jsonl").read_text().splitlines()) >= len(measured(sweep / "0"))
    assert not (sweep / "1").exists()


def test_a_run_is_stopped_before_anything_is_measured(command_line: CommandLine) -> None:
    run = command_line.folder / "run"
    arguments = [*command_line.experiment, "engine.ttft_ms=600000", "hydra.run.dir=run"]
    with command_line.started(*arguments) as running:
        wait_until(lambda: (run / "requests.jsonl").exists())  # the warm-up is in flight, and stays there
        child = running.measuring_process()
        running.interrupt()
        outcome = running.end()
        assert not is_alive(child)
    assert outcome.status == 130
    assert outcome.error == f"error: interrupted; what was measured is in {run}"
    assert outcome.stdout == ""
    assert read_json(run / "manifest.json")["status"] == "interrupted"
    assert read_json(run / "summary.json")["requests"]["finished"] == 0
