"""Stop signals: Ctrl-C, SIGTERM, SIGHUP (a closed terminal) and SIGUSR2 (schedulers' time limits).

From its first import on, the program ends cleanly at any of them. `raise_on_stop` turns them into KeyboardInterrupt;
within a `StopSignals` block, which cannot bear an exception out of nowhere, they are counted instead. What was
ignored when the process began, as SIGHUP is under nohup, stays ignored.
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
"""Signals that follow each other sooner are one: shells, terminals and `timeout` send theirs twice."""
EXIT_STATUS = 130


class _Received:
    """How often this process was told to stop. An import that swallows the exception does not make it go on."""

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
    """From now on, no stop signal arrives: while Python ends, it would kill where it can no longer be caught."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP)


class StopSignals:
    """Counts stop signals within its block instead of having them interrupt it.

    In a launcher's thread, where Python allows no handlers, there is nothing to count. The third one ends the
    process at once.
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
    """Sets the handler of all stop signals that are not ignored, and returns those of before."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    caught = [number for number in STOP if signal.getsignal(number) is not signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in caught}


def _note(*_: object) -> bool:
    """Counts a signal; returns whether it is a stop of its own."""
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
