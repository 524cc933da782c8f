"""The capacity of a method and what speculation makes of it: by hand, and how often the interval has the truth."""

import math

import numpy as np
import pytest

from specdec_bench.compare.capacity import Probe, ProbeRun, capacity, capacity_ratio, read_run
from specdec_bench.metrics.backlog import BacklogGrowth
from tests.helpers.made_runs import S, failure, request

STEADY, GROWING = BacklogGrowth(0, 100), BacklogGrowth(50, 100)


def probe(load: float, num_within: int, num_judged: int = 10, growth: BacklogGrowth = STEADY) -> Probe:
    """Three runs of two prompts, which are all alike."""
    run = ProbeRun(outcomes=dict.fromkeys("ab", (num_within, num_judged)), growth=growth)
    return Probe(load=load, runs=[run] * 3)


def test_shares_and_verdicts_by_hand() -> None:
    assert probe(1, 9).share == 0.9
    assert probe(1, 9).passes(0.9)
    assert not probe(1, 9).passes(0.91)
    assert not probe(1, 10, growth=GROWING).passes(0.9)
    assert Probe(load=1, runs=[ProbeRun(outcomes={}, growth=STEADY)] * 3).share == 0


def test_the_crossing_is_interpolated_on_the_logarithm() -> None:
    """100% at 1 and 80% at 4: 90% at 2. Nothing varies, so the interval is what the search left open: 1 to 4."""
    found = capacity([probe(4, 8), probe(1, 10)], 0.9)
    assert (found.value, found.low, found.high) == pytest.approx((2, 1, 4))


def test_shares_that_rise_with_the_load_are_pooled() -> None:
    """85% at 1 and 95% at 2 are 90% for both; at 4 it is 70%. The share is 90% up to 2."""
    found = capacity([probe(1, 17, 20), probe(2, 19, 20), probe(4, 14, 20)], 0.9)
    assert found.value == pytest.approx(2)


def test_a_growing_backlog_counts_as_missed() -> None:
    """100% at 1, and at 4 all requests too, but they pile up: 90% is met at a tenth of the way."""
    found = capacity([probe(1, 10), probe(4, 10, growth=GROWING)], 0.9)
    assert found.value == pytest.approx(4**0.1)


def test_the_ratio_by_hand() -> None:
    """2 with and 0.5 without: 4, and each search leaves a factor of 2 either way."""
    ratio = capacity_ratio([probe(1, 10), probe(4, 8)], [probe(0.25, 10), probe(1, 8)], 0.9)
    margin = math.sqrt(2) * math.log(2)
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((4, 4 * math.exp(-margin), 4 * math.exp(margin)))


def test_a_single_conversation_has_no_interval() -> None:
    alone = [
        Probe(load=load, runs=[ProbeRun(outcomes={"a": (n, 10)}, growth=STEADY)] * 3) for load, n in ((1, 10), (4, 8))
    ]
    found = capacity(alone, 0.9)
    assert (found.value, found.low, found.high) == (pytest.approx(2), None, None)


def test_what_is_read_of_a_run() -> None:
    """TTFT is 1 s since the request was sent, and 3 s since the second was due."""
    records = [
        request(0, prompt_id="a"),
        request(1, prompt_id="a", scheduled_ns=8 * S),
        request(2, prompt_id="b", error=failure("engine_error")),
        request(3, prompt_id="c", error=failure("context_overflow")),
        request(4, prompt_id="c", phase="warmup"),
    ]
    assert read_run(records, {"ttft_ms": 1000}).outcomes == {"a": (1, 2), "b": (0, 1)}


def simulated(rng: np.random.Generator, limit: float, prompts: np.ndarray, seeds: np.ndarray) -> list[Probe]:
    """Loads around a limit at which 90% are met; arrivals and conversations shift it on the logarithm."""
    found = []
    for load in limit * np.array([0.8, 0.95, 1.0, 1.05, 1.2]):
        runs = []
        for seed in seeds:
            logit = math.log(9) - 8 * (math.log(load / limit) + seed) + prompts
            within = rng.binomial(10, 1 / (1 + np.exp(-logit)))
            runs.append(ProbeRun(outcomes={str(n): (int(w), 10) for n, w in enumerate(within)}, growth=STEADY))
        found.append(Probe(load=float(load), runs=runs))
    return found


def coverage(number: int) -> float:
    """Returns how often the interval of the ratio has the true 1.5. Seeds shift both sides alike and each by itself."""
    rng, hits = np.random.default_rng(1), 0
    for _ in range(number):
        prompts, common = rng.normal(0, 0.5, 40), rng.normal(0, 0.03, 3)
        sides = [simulated(rng, limit, prompts, common + rng.normal(0, 0.02, 3)) for limit in (1.5, 1.0)]
        ratio = capacity_ratio(sides[0], sides[1], 0.9)
        assert ratio.low is not None
        assert ratio.high is not None
        hits += ratio.low <= 1.5 <= ratio.high
    return hits / number


def test_the_interval_has_the_truth_often_enough() -> None:
    assert coverage(20) >= 0.85


@pytest.mark.soak
def test_the_interval_has_the_truth_19_times_in_20() -> None:
    """Of 400 the standard error is 1.1 points."""
    assert coverage(400) >= 0.93
