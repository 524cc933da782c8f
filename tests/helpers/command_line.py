"""Runs run.py as a user does, and watches its processes."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.helpers import fork_server

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 300
"""For what ends in seconds; only a hang reaches it."""
PROGRESS = re.compile(r"^(?:.*; )?(?:starting the engine|warming up|\d+ of \d+ requests done; .*)\n", re.MULTILINE)
"""What stderr says every half a minute: only a loaded machine takes so long."""


@dataclass(frozen=True)
class Outcome:
    """How a process ended and what it said."""

    status: int
    stdout: str
    stderr: str

    @property
    def errors(self) -> list[str]:
        """The lines for the user; never a traceback."""
        assert "Traceback" not in self.stderr
        return [line for line in self.stderr.splitlines() if line.startswith("error: ")]

    @property
    def error(self) -> str:
        """The one line that is all of stderr."""
        assert len(self.errors) == 1, self.stderr
        assert self.stderr == self.errors[0] + "\n"
        return self.errors[0]


@dataclass(frozen=True)
class CommandLine:
    """run.py in a folder of its own."""

    folder: Path
    environment: Mapping[str, str]
    prompts: Path | None = None
    """Of the small experiment: a file of three requests."""
    timeout_s: float = TIMEOUT_S

    @property
    def experiment(self) -> list[str]:
        return ["engine=synthetic", "spec=ngram", "dataset=jsonl", f"dataset.path={self.prompts}"]

    def measure(self, *overrides: str, **environment: str) -> Outcome:
        """Runs the small experiment with these overrides."""
        return self(*self.experiment, *overrides, **environment)

    def __call__(self, *arguments: str | Path, **environment: str) -> Outcome:
        """Runs run.py to its end, forked from a process that has imported it where that makes no difference."""
        variables = {**self.environment, **environment}
        if not fork_server.can_fork(variables):
            return self.python(ROOT / "run.py", *arguments, **environment)
        command = [sys.executable, str(ROOT / "run.py"), *map(str, arguments)]
        fork_server.address_of(fork_server.server_for(command[2:]))  # for its measuring process
        process = fork_server.ForkedProcess(
            command,
            cwd=self.folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        stdout, stderr = process.communicate(self.timeout_s)
        return Outcome(process.wait(), stdout, PROGRESS.sub("", stderr))

    def python(self, *arguments: str | Path, **environment: str) -> Outcome:
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=self.timeout_s,
        )
        return Outcome(done.returncode, done.stdout, PROGRESS.sub("", done.stderr))

    @contextlib.contextmanager
    def started(self, *arguments: str) -> Iterator["Running"]:
        """Starts run.py in a process group of its own, as a shell does; whatever is left of it is killed in the end."""
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "run.py"), *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,
        )
        running = Running(process, self.timeout_s)
        try:
            yield running
        finally:
            for pid in [*children(process.pid), process.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.communicate()


@dataclass(frozen=True)
class Running:
    """A run.py that has been started."""

    process: "subprocess.Popen[str]"
    timeout_s: float = TIMEOUT_S

    def measuring_process(self) -> int:
        """Returns the pid of the child that holds the engine."""
        wait_until(self.measuring_processes)
        (pid,) = self.measuring_processes()
        return pid

    def measuring_processes(self) -> list[int]:
        return [pid for pid in children(self.process.pid) if b"specdec_bench.runner.worker" in command(pid)]

    def interrupt(self) -> None:
        """Presses Ctrl-C: the terminal signals the foreground process group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> Outcome:
        stdout, stderr = self.process.communicate(timeout=self.timeout_s)
        return Outcome(self.process.returncode, stdout, PROGRESS.sub("", stderr))


def children(pid: int) -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if _status(path)[1:2] == [str(pid)]]


def is_alive(pid: int) -> bool:
    # One that has ended and that nobody waits for (in a container without an init) stays as a zombie.
    return _status(Path("/proc") / str(pid))[:1] not in ([], ["Z"])


def command(pid: int) -> bytes:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes()
    except OSError:
        return b""


def _status(process: Path) -> list[str]:
    """Returns a process's state, parent and so on; nothing if it is gone."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def wait_until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def requests(run: Path) -> list[dict[str, Any]]:
    """Returns the whole lines of requests.jsonl, read without the project's own reader."""
    path = run / "requests.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def measured(run: Path) -> list[dict[str, Any]]:
    """Returns the requests of the measured window that finished."""
    return [r for r in requests(run) if r["phase"] == "measure" and r.get("error") is None]
