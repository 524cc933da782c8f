"""Whether a backlog grows, on requests whose times a person can add up."""

import pytest

from specdec_bench.metrics.backlog import BacklogGrowth, backlog_growth, is_growing
from specdec_bench.records.request import RequestRecord, Step
from tests.helpers.made_runs import S, request


def due(second: float, ended: float, **changes: object) -> RequestRecord:
    at = round(second * S)
    steps = [Step(received_ns=round(ended * S), num_tokens=1)]
    return request(round(second * 10), **({"scheduled_ns": at, "sent_ns": at, "steps": steps, "turn": 0} | changes))


def test_a_backlog_of_one_stays() -> None:
    """One is due every second until second 100 and ends 0.5 s later: half a request is in the backlog on average."""
    growth = backlog_growth(due(n, n + 0.5) for n in range(101))
    assert growth.num_requests == pytest.approx(0)
    assert growth.num_due == 50  # at 38, 39, ... 87 s
    assert not is_growing([growth])


def test_an_engine_of_half_the_rate_falls_behind_by_half() -> None:
    """The n-th ends at 2 n + 2 s: of those due, half are done, so the backlog gains 25 requests in 50 s."""
    growth = backlog_growth(due(n, 2 * n + 2) for n in range(101))
    assert growth.num_requests == pytest.approx(25, abs=0.1)
    assert is_growing([growth])


def test_a_burst_that_is_worked_off_does_not_grow() -> None:
    """30 more are due at second 30, in the second quarter, and have ended by second 60."""
    steady = [due(n, n + 0.5) for n in range(101)]
    growth = backlog_growth([*steady, *(due(30, 31 + n) for n in range(30))])
    assert growth.num_requests < 0
    assert not is_growing([growth])


def test_later_turns_count_when_they_are_due() -> None:
    """A later turn is part of the backlog, but sets no end to the arrivals."""
    steady = [due(n, n + 0.5) for n in range(101)]
    assert backlog_growth([*steady, due(400, 401, turn=1)]) == backlog_growth(steady)
    # Due throughout the last quarter, and in the backlog for all of it.
    assert backlog_growth([*steady, due(75, 100, turn=1)]).num_requests == pytest.approx(1)


def test_what_was_not_measured_is_left_out() -> None:
    steady = [due(n, n + 0.5) for n in range(101)]
    others = [due(80, 100, phase="warmup"), due(80, 100, sent_ns=None)]
    assert backlog_growth([*steady, *others]) == backlog_growth(steady)
    assert backlog_growth([]) == backlog_growth([due(0, 1)]) == BacklogGrowth(0, 0)


@pytest.mark.parametrize(
    ("runs", "grows"),
    [
        ([(6, 100)], True),  # 6%
        ([(5, 100)], False),  # at the limit
        ([(2, 10)], False),  # 20%, but two requests may come and go
        ([(12, 100), (-3, 100), (0, 100)], False),  # 3% over all of them
        ([(12, 100), (2, 100), (2, 100)], True),  # 5.3%
    ],
)
def test_growth_is_judged_over_all_runs(runs: list[tuple[float, int]], grows: bool) -> None:
    assert is_growing([BacklogGrowth(*run) for run in runs]) is grows
