"""How late the measuring loop itself is, which distinguishes a saturated client from a slow engine."""

import asyncio
from array import array
from typing import Self

from specdec_bench.records.manifest import Lateness

PERIOD_S = 0.1


class LoopLateness:
    """A context manager that asks the running loop for a wake-up every 100 ms and records how late each one is.

    What happens while the loop is busy is noticed just as late as such a wake-up: a chunk, whose time is then late
    unless the kernel told it, and the end of a reply, after which the next request is sent.
    """

    def __init__(self) -> None:
        self._late_s = array("d")
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._schedule()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _schedule(self) -> None:
        self._due_s = self._loop.time() + PERIOD_S
        self._timer = self._loop.call_at(self._due_s, self._wake)

    def _wake(self) -> None:
        self._late_s.append(self._loop.time() - self._due_s)
        self._schedule()

    def result(self) -> Lateness | None:
        """Returns the distribution in ms; None if the window was too short for one wake-up."""
        if not self._late_s:
            return None
        ordered = sorted(self._late_s)

        def quantile(share: float) -> float:
            return 1e3 * ordered[min(int(share * len(ordered)), len(ordered) - 1)]

        return Lateness(
            count=len(ordered),
            mean_ms=1e3 * sum(ordered) / len(ordered),
            p50_ms=quantile(0.5),
            p99_ms=quantile(0.99),
            max_ms=1e3 * ordered[-1],
        )
