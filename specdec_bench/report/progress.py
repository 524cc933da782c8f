"""The progress of a running cell: a bar on a terminal, elsewhere a line now and then."""

import sys
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from specdec_bench.report.console import console
from specdec_bench.runner import messages

LINE_EVERY_S = 30.0
"""How often a line is printed where there is no terminal."""


@dataclass(kw_only=True)
class Cells:
    """How far the sweep of the running cell is."""

    total: int | None
    """None if the sweeper decides as it goes."""
    done: int = 0
    """Includes the cells of an earlier attempt."""
    ended_here: int = 0
    began_s: float = field(default_factory=time.monotonic)
    is_verbose: bool = False
    """Whether each cell's whole table is shown, instead of a line."""
    told: set[str] = field(default_factory=set)
    """Warnings that were printed for an earlier cell."""

    def end_cell(self) -> None:
        """Counts one more cell as ended."""
        self.done += 1
        self.ended_here += 1

    def __str__(self) -> str:
        """Returns how many cells are done, in words."""
        return f"{self.done} cells done" if self.total is None else f"{self.done} of {self.total} cells done"

    def seconds_left(self, of_cell_s: float, elapsed_s: float) -> float | None:
        """Returns seconds until the last cell ends, if each cell to come takes the average time of those so far.

        Args:
            of_cell_s: seconds left of the running cell.
            elapsed_s: seconds since the first cell of this process began.
        """
        if self.total is None:
            return None
        per_cell_s = (elapsed_s + of_cell_s) / (self.ended_here + 1)
        return of_cell_s + per_cell_s * (self.total - self.done - 1)


class RunProgress:
    """Shows finished requests, tokens per second, the running acceptance length and, in a sweep, the cells done."""

    def __init__(self, *, disable: bool = False, cells: Cells | None = None) -> None:
        screen = console(stderr=True)
        self._cells = cells
        self._prefix = "" if cells is None else f"{cells} · "
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[rates]}"),
            console=screen,
            transient=True,
            disable=disable or not screen.is_terminal,
        )
        self._task = self._progress.add_task(f"{self._prefix}starting the engine", total=None, rates="")
        self._last: messages.Progress | None = None
        self._ended = threading.Event()
        self._lines = None if disable or screen.is_terminal else threading.Thread(target=self._print_lines, daemon=True)

    def __enter__(self) -> "RunProgress":
        """Starts drawing."""
        self._progress.start()
        if self._lines is not None:
            self._lines.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Removes the bar."""
        self._ended.set()
        self._progress.stop()
        if self._lines is not None:
            self._lines.join()
        if self._cells is not None:
            self._cells.end_cell()

    def update(self, progress: messages.Progress) -> None:
        """Draws the state that the measuring process reported."""
        self._last = progress
        self._progress.update(
            self._task,
            description=self._prefix + _phase(progress),
            total=progress.total if progress.phase == "measure" else None,
            completed=progress.counts.ended,
            rates=_rates(progress),
        )

    def line(self) -> str:
        """Returns the state in one line: cells and requests done, and the time left."""
        parts = [] if self._cells is None else [str(self._cells)]
        last = self._last
        if last is None:
            return "; ".join([*parts, "starting the engine"])
        if last.phase == "warmup":
            return "; ".join([*parts, "warming up"])
        parts += [f"{last.counts.ended} of {last.total} requests done", _rates(last)]
        left_s = seconds_left(last)
        if self._cells is not None and left_s is not None:
            left_s = self._cells.seconds_left(left_s, time.monotonic() - self._cells.began_s)
        return "; ".join([*parts, "time left unknown" if left_s is None else f"about {duration(left_s)} left"])

    def _print_lines(self) -> None:
        while not self._ended.wait(LINE_EVERY_S):
            sys.stderr.write(self.line() + "\n")
            sys.stderr.flush()


def seconds_left(progress: messages.Progress) -> float | None:
    """Returns seconds until the cell ends at the average rate so far; None before its first request has ended."""
    done = progress.counts.ended
    return progress.elapsed_s / done * (progress.total - done) if done else None


def duration(seconds: float) -> str:
    """Returns a duration in at most its two largest units."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _phase(progress: messages.Progress) -> str:
    return "warming up" if progress.phase == "warmup" else "measuring"


def _rates(progress: messages.Progress) -> str:
    counts = progress.counts
    rate = counts.output_tokens / progress.elapsed_s if progress.elapsed_s else 0.0
    rates = f"{rate:,.0f} tokens/s"
    if counts.decode_steps:
        rates += f" · acceptance length {counts.decoded_tokens / counts.decode_steps:.2f}"
    for outcome, number in (("failed", counts.failed), ("skipped", counts.skipped)):
        if number:
            rates += f" · {number} {outcome}"
    return rates
