"""What takes too long is ended, in the main thread and in others; what does not is left alone."""

import contextlib
import threading
from collections.abc import Callable

import pytest

from specdec_bench.checkpoints.time_limit import TimeLimitExceeded, time_limit


def spin() -> None:
    while True:
        pass


def stubborn() -> None:
    """Takes every exception for a failure of its own."""
    while True:
        with contextlib.suppress(Exception):
            spin()


@pytest.mark.parametrize("work", [spin, stubborn])
def test_what_does_not_end_is_ended(work: Callable[[], None]) -> None:
    with pytest.raises(TimeLimitExceeded), time_limit(0.05):
        work()


def test_in_another_thread_too() -> None:
    caught: list[type[BaseException]] = []

    def run() -> None:
        try:
            with time_limit(0.05):
                spin()
        except TimeLimitExceeded as error:
            caught.append(type(error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(30)
    assert caught == [TimeLimitExceeded]


def test_one_that_just_ends_is_struck_within_the_block_or_not_at_all() -> None:
    for _ in range(100):
        with contextlib.suppress(TimeLimitExceeded), time_limit(0.0005):
            sum(range(20_000))
        sum(range(20_000))  # never here


def test_no_timer_is_left_over() -> None:
    before = threading.active_count()
    with time_limit(600):
        pass
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join(30)
    assert threading.active_count() <= before
