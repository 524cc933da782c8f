"""Kills real servers, or the runs that started them, and looks at what is left."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.helpers.engine_sweeps import FORKED, ROOT, environment_of, error_lines, processes_below

TIMEOUT_S = 300
SUPERVISOR = "specdec_bench.engines.server.supervisor"
WORKER = "specdec_bench.runner.worker"


@contextmanager
def running(
    folder: Path,
    *arguments: str,
    is_forked: bool = False,
    python: str = sys.executable,
    environment: Mapping[str, str] | None = None,
) -> Iterator["subprocess.Popen[str]"]:
    """Starts run.py, as users have it unless the engine's processes are to be forked. It is killed in the end."""
    process = subprocess.Popen(
        [python, str(ROOT / "run.py"), *arguments],
        cwd=folder,
        env=environment_of(environment, *([FORKED] if is_forked else [])),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def assert_nothing_lives_on(folder: Path, *arguments: str, **interpreter: Any) -> None:
    """Kills a run and its measuring process while its server starts.

    By then the server has processes of its own, or will have.
    """
    with running(folder, *arguments, "spec=none", "hydra.run.dir=run", **interpreter) as process:
        _wait(process, lambda: _server(process.pid) is not None)
        started = psutil.Process(process.pid).children(recursive=True)
        for killed in (process.pid, *(one.pid for one in started if WORKER in _words(one))):
            os.kill(killed, signal.SIGKILL)
        assert _alive(started) == []


def assert_killed_servers_end_their_cells_alone(
    folder: Path, *arguments: str, process_name: str, **interpreter: Any
) -> None:
    """Kills the engine's own process, whose name begins so, in the first of two cells, and the server in the second.

    Each cell ends in one line and keeps its finished requests. The second one had started a server of its own.
    """
    runs = [folder / "sweep" / number for number in ("0", "1")]
    cells = ["spec=none", "load.repeats=1000,1001", "sampling.max_new_tokens=16", "hydra.sweep.dir=sweep"]
    with running(folder, "-m", *arguments, *cells, is_forked=True, **interpreter) as process:
        _wait(process, lambda: _num_finished(runs[0]) >= 5)
        started = psutil.Process(process.pid).children(recursive=True)
        (engine,) = [pid for pid, name in processes_below(process.pid).items() if name.startswith(process_name)]
        os.kill(engine, signal.SIGKILL)
        _wait(process, lambda: _num_finished(runs[1]) >= 5)
        started += psutil.Process(process.pid).children(recursive=True)
        server = _server(process.pid)
        assert server is not None
        server.kill()
        _, errors = process.communicate(timeout=TIMEOUT_S)
        assert _alive(started) == []
    assert process.returncode == 1
    assert "Traceback" not in errors
    lines = error_lines(errors)
    assert len(lines) == len(runs), lines
    for number, (run, line) in enumerate(zip(runs, lines, strict=True)):
        assert line.startswith(f"error: job {number}: the server at http://127.0.0.1:"), line
        assert " is gone: " in line
        manifest, summary = (json.loads((run / name).read_text()) for name in ("manifest.json", "summary.json"))
        assert (manifest["status"], summary["partial"], manifest["engine"]["reused"]) == ("failed", True, False)
        assert summary["requests"]["finished"] >= 4


def _wait(process: "subprocess.Popen[str]", condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _server(pid: int) -> psutil.Process | None:
    """Returns the server that a run has started, once it is there."""
    for supervisor in psutil.Process(pid).children(recursive=True):
        if SUPERVISOR in _words(supervisor):
            return next(iter(supervisor.children()), None)
    return None


def _num_finished(run: Path) -> int:
    file = run / "requests.jsonl"
    return file.read_text().count("\n") if file.is_file() else 0


def _alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Returns those that do not end within a minute. Nobody may wait for an orphan that has ended."""
    _, alive = psutil.wait_procs(processes, timeout=60)
    return [one for one in alive if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
