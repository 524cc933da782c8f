"""Kills a sweep at a random moment, goes on with it, and compares what came out with an undisturbed one."""

import contextlib
import csv
import json
import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.helpers.command_line import ROOT, CommandLine, Running, read_json, wait_until

MARK = "SPECDEC_BENCH_KILL_TEST"
"""An environment variable that everything which a sweep starts inherits."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL)
VICTIMS = ("parent", "child", "group", "child's group")


@dataclass(frozen=True)
class Kill:
    """What is done to a sweep, and when."""

    number: signal.Signals
    victim: str
    moment: float
    """As a share of the time that the undisturbed sweep takes."""

    @classmethod
    def draw(cls, seed: int) -> "Kill":
        """Returns the kill of a seed: signals and victims in turn, the moment at random."""
        moment = random.Random(seed).random()
        return cls(SIGNALS[seed % 4], VICTIMS[seed // 4 % 4], moment)

    @property
    def stops_the_sweep(self) -> bool:
        return self.victim in ("parent", "group")

    def strike(self, running: Running, duration_s: float) -> None:
        time.sleep(self.moment * duration_s)
        with contextlib.suppress(ProcessLookupError):  # it was faster
            if self.victim == "parent":
                os.kill(running.process.pid, self.number)
            elif self.victim == "group":
                os.killpg(running.process.pid, self.number)
            elif (child := self._child(running)) is not None:
                (os.kill if self.victim == "child" else os.killpg)(child, self.number)

    def _child(self, running: Running) -> int | None:
        """Returns the measuring process, waited for; None if the sweep ends without another."""
        while running.process.poll() is None:
            for pid in running.measuring_processes():
                return pid
            time.sleep(0.01)
        return None


@dataclass(frozen=True)
class Sweep:
    """What a sweep's folder holds."""

    cells: dict[str, str]
    """Each planned cell's id by its folder."""
    outputs: dict[str, dict[str, list[int]]]
    """By cell: the token ids of each measured request."""

    @classmethod
    def read(cls, folder: Path) -> "Sweep":
        """Reads a finished sweep, without the project's own reader."""
        plan = read_json(folder / "sweep.json")
        cells = {cell["folder"]: cell["cell_id"] for cell in plan["cells"]}
        outputs = {}
        for name, cell_id in cells.items():
            manifest = read_json(folder / name / "manifest.json")
            assert (manifest["status"], manifest["cell_id"]) == ("finished", cell_id)
            records = [
                record for record in whole_lines(folder / name / "requests.jsonl") if record["phase"] == "measure"
            ]
            assert all(record["error"] is None for record in records)
            outputs[name] = {record["request_id"]: record["output_token_ids"] for record in records}
            assert len(outputs[name]) == len(records), "a request is there twice"
        with (folder / "sweep.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert [(row["status"], Path(row["path"]).name) for row in rows] == [("finished", name) for name in cells]
        return cls(cells, outputs)


def whole_lines(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    assert data.endswith(b"\n") or not data
    return [json.loads(line) for line in data.splitlines()]


@dataclass(frozen=True)
class Undisturbed:
    """A sweep that nobody killed."""

    arguments: tuple[str, ...]
    sweep: Sweep
    duration_s: float

    @classmethod
    def run(cls, command_line: CommandLine, *arguments: str) -> "Undisturbed":
        # Twice, for the first one may have modules to compile, and moments of a longer sweep come too late.
        for name in ("first", "sweep"):
            with command_line.started(*arguments, f"hydra.sweep.dir={name}") as running:
                wait_for_handlers(running)
                began_s = time.monotonic()
                outcome = running.end()
            assert outcome.status == 0, outcome.stderr
        return cls(arguments, Sweep.read(command_line.folder / "sweep"), time.monotonic() - began_s)

    def kill_and_resume(self, command_line: CommandLine, kill: Kill) -> str:
        """Kills such a sweep, checks what is left, goes on with it, and returns in a word how far it had come."""
        mark = f"{os.getpid()}-{command_line.folder}"
        marked = replace(command_line, environment={**command_line.environment, MARK: mark})
        folder = command_line.folder / "sweep"
        with marked.started(*self.arguments, "hydra.sweep.dir=sweep") as running:
            wait_for_handlers(running)
            kill.strike(running, self.duration_s)
            outcome = running.end()
            wait_until(lambda: not list(processes_marked(mark)))  # before anything cleans up after it
        is_planned = (folder / "sweep.json").is_file()
        runs = [path.parent for path in folder.glob("*/manifest.json")]
        statuses = [read_json(run / "manifest.json")["status"] for run in runs]
        if kill.number == signal.SIGKILL:
            assert outcome.status == (-9 if kill.stops_the_sweep else 0) or statuses.count("failed") == 1
        else:
            assert "started" not in statuses
            for run in runs:
                whole_lines(run / "requests.jsonl") if (run / "requests.jsonl").exists() else None
            if outcome.status == 130:
                ending = "; resume=sweep runs what is not finished" if is_planned else ""
                assert outcome.stderr.splitlines()[-1] == f"error: interrupted{ending}"
            elif kill.stops_the_sweep:
                assert (outcome.status, outcome.stderr) == (0, "")  # it had come to its end
            assert "Traceback" not in outcome.stderr
        again = ["resume=sweep"] if is_planned else [*self.arguments, "hydra.sweep.dir=sweep"]
        resumed = marked.python(ROOT / "run.py", *again)  # a forked process would not show its mark
        assert (resumed.status, resumed.stderr) == (0, "")
        assert Sweep.read(folder) == self.sweep
        assert not list(processes_marked(mark))
        return "start-up" if not is_planned else f"{statuses.count('finished')} of {len(self.sweep.cells)} cells"


def wait_for_handlers(running: Running) -> None:
    """Waits until the program's first import is over: before, a signal ends Python as it does any process."""

    def has_handlers() -> bool:
        with contextlib.suppress(OSError):
            for line in (Path("/proc") / str(running.process.pid) / "status").read_text().splitlines():
                if line.startswith("SigCgt:"):
                    return bool(int(line.split()[1], 16) & 1 << (signal.SIGTERM - 1))
        return running.process.poll() is not None

    wait_until(has_handlers)


def processes_marked(mark: str) -> Iterator[int]:
    """Yields the processes that a sweep has left; one that has ended has no environment any more."""
    wanted = f"{MARK}={mark}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                yield int(process.name)
