"""Distinguishes an engine that has stopped answering from one that is slow, or has nothing to do."""

import time

from specdec_bench.runner.messages import Progress


class StallWatch:
    """Watches the measuring process's progress from the parent: a stopped or hung process reports none."""

    def __init__(self, timeout_s: float | None) -> None:
        """Takes how many seconds without a token are too many; None means no limit."""
        self._timeout_s = timeout_s
        self._since_s: float | None = None
        """When a token last arrived, or no request was in flight; None before the load begins."""
        self._counts: tuple[object, ...] = ()

    def start(self) -> None:
        """Starts the clock when the load begins, not before: an engine may take long to start."""
        self._since_s = time.monotonic()

    def see(self, progress: Progress) -> None:
        """Takes in the latest counts."""
        counts = (progress.phase, progress.counts.ended, progress.counts.output_tokens)
        if counts != self._counts or progress.counts.in_flight == 0:
            self._since_s = time.monotonic()
        self._counts = counts

    def failure(self) -> str | None:
        """Returns an error message if the engine has given no token for too long, else None."""
        if self._timeout_s is None or self._since_s is None or time.monotonic() - self._since_s < self._timeout_s:
            return None
        return f"the engine gave no token for {self._timeout_s:g} s (engine.stall_timeout_s), with requests in flight"
