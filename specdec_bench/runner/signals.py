"""Stop signals: Ctrl-C, SIGTERM, SIGHUP (a closed terminal) and SIGUSR2 (schedulers' time limits).

The program ends cleanly at any of them, from its first import on. `raise_on_stop` turns them into KeyboardInterrupt.
Within a `StopSignals` block, which must not be interrupted by an exception, they are counted instead. Signals that were
ignored when the process began stay ignored, such as SIGHUP under nohup.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
SAME_STOP_S = 1.0
"""Signals that follow each other sooner count as one: shells, terminals and `timeout` send theirs twice."""
EXIT_STATUS = 130


class _Received:
    """How often this process was told to stop. It stops even if an import swallows the exception."""

    count = 0
    last_s = float("-inf")


def times_stopped() -> int:
    """Returns how often this process has been told to stop."""
    return _Received.count


def raise_on_stop() -> None:
    """From now on, a stop signal raises KeyboardInterrupt in the main thread."""
    _handle(_raise)


def ignore_stop() -> None:
    """From now on, a stop signal interrupts nothing; the program is about to end."""
    _handle(_note)


def block_stop() -> None:
    """From now on, no stop signal arrives: while Python exits, it could not be caught and would kill the process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP)


def leave_to_parent() -> None:
    """From now on, the process that started this one decides when it ends. Begins what `held_back` held back."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):  # and these, which Slurm sends to all processes
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: None)  # not SIG_IGN, which an engine's processes would inherit
    let_in()


class StopSignals:
    """Counts stop signals within its block instead of letting them interrupt it.

    The third one ends the process at once. Python allows no handlers in a launcher's thread, so nothing is counted
    there.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}

    @property
    def count(self) -> int:
        """How often this process has been told to stop, before the block or in it."""
        return times_stopped()

    def __enter__(self) -> "StopSignals":
        """Starts counting."""
        self._before = _handle(_note)
        return self

    def __exit__(self, *_: object) -> None:
        """Restores the handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Within the block, this thread gets no stop signal, and neither does a process that it starts; see `let_in`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_in() -> None:
    """Delivers what was held back when this process was started."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP)


def _handle(handler: Any) -> dict[int, Any]:
    """Sets the handler of all stop signals that are not ignored, and returns the previous handlers."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    caught = [number for number in STOP if signal.getsignal(number) is not signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in caught}


def _note(*_: object) -> bool:
    """Counts a signal; returns False if it only repeats the one before."""
    now_s = time.monotonic()
    if now_s - _Received.last_s < SAME_STOP_S:
        return False
    _Received.count, _Received.last_s = _Received.count + 1, now_s
    if _Received.count > 2:
        os._exit(EXIT_STATUS)
    return True


def _raise(*_: object) -> None:
    if _note():
        raise KeyboardInterrupt
