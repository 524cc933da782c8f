"""Intervals of the figures of a few requests, which the summary of the same requests has too."""

import pytest

from specdec_bench.compare.columns import METRICS, metric_value
from specdec_bench.compare.headline import Conversations, pooled_metrics
from specdec_bench.metrics.summary import summarize
from specdec_bench.records.interval import Interval
from tests.helpers.made_runs import failure, manifest, request

REQUESTS = [
    request(0, 3, 1, 0),
    request(1, 2, 2, prompt_id="p0", turn=1),
    request(2, 0, 0, 1, 3),
    request(3, 1),
    request(4),  # one token: no step, no TPOT
]


def test_the_values_are_those_of_the_summary() -> None:
    summary, found = summarize(REQUESTS, manifest()), pooled_metrics([Conversations(REQUESTS)])
    for name, interval in found.items():
        assert name in METRICS
        assert interval.value == pytest.approx(metric_value(summary, name)), name
        assert interval.low is not None
        assert interval.high is not None
        assert interval.low <= interval.value <= interval.high, name


def test_runs_of_one_cell_are_summed() -> None:
    twice = pooled_metrics([Conversations(REQUESTS), Conversations(REQUESTS)])
    once = pooled_metrics([Conversations(REQUESTS)])
    assert {name: twice[name].value for name in twice} == pytest.approx({n: once[n].value for n in once})


def test_what_one_request_does_not_tell_is_undefined() -> None:
    mute = request(5, 1, 1, acceptance_source="engine_total", steps_are_exact=True)
    found = pooled_metrics([Conversations([*REQUESTS, mute])])
    assert found["draft_acceptance_rate"] == Interval(value=None, low=None, high=None)
    assert found["acceptance_length"].value is not None


def test_warm_up_and_failures_are_in_no_figure() -> None:
    others = [request(6, 3, phase="warmup"), request(7, 3, error=failure("engine_error"))]
    assert pooled_metrics([Conversations([*REQUESTS, *others])]) == pooled_metrics([Conversations(REQUESTS)])
    assert pooled_metrics([Conversations(others)])["e2e_ms_mean"] == Interval(value=None, low=None, high=None)
