"""When an engine counts as stalled; the clock is the test's."""

import pytest

from specdec_bench.runner import stall
from specdec_bench.runner.messages import Counts, Progress
from specdec_bench.runner.stall import StallWatch


class Clock:
    now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(stall, "time", clock)
    return clock


def progress(*, in_flight: int = 1, output_tokens: int = 0, finished: int = 0) -> Progress:
    return Progress(
        phase="measure",
        counts=Counts(in_flight=in_flight, output_tokens=output_tokens, finished=finished),
        total=10,
        elapsed_s=0.0,
    )


def test_starting_the_engine_takes_as_long_as_it_takes(clock: Clock) -> None:
    watch = StallWatch(600)
    clock.now_s = 10_000
    assert watch.failure() is None
    watch.start()
    clock.now_s = 10_599
    assert watch.failure() is None
    clock.now_s = 10_600
    assert watch.failure() == "the engine gave no token for 600 s (engine.stall_timeout_s), with requests in flight"


def test_a_token_or_the_end_of_a_request_starts_the_clock_anew(clock: Clock) -> None:
    watch = StallWatch(10)
    watch.start()
    for now_s, tokens, finished in ((9, 1, 0), (18, 2, 0), (27, 2, 1)):
        clock.now_s = now_s
        watch.see(progress(output_tokens=tokens, finished=finished))
        assert watch.failure() is None
    clock.now_s = 36
    watch.see(progress(output_tokens=2, finished=1))  # as before
    assert watch.failure() is None
    clock.now_s = 37
    assert watch.failure() is not None


def test_nothing_in_flight_is_no_stall_while_the_process_says_so(clock: Clock) -> None:
    watch = StallWatch(10)
    watch.start()
    for now_s in range(0, 100, 5):
        clock.now_s = now_s
        watch.see(progress(in_flight=0))
        assert watch.failure() is None
    clock.now_s = 95 + 10  # it says nothing any more: stopped between two requests
    assert watch.failure() is not None


def test_without_a_timeout_it_is_waited_for(clock: Clock) -> None:
    watch = StallWatch(None)
    watch.start()
    clock.now_s = 1e9
    assert watch.failure() is None
