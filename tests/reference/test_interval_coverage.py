"""Whether the 95% interval of a speedup holds the true one 95% of the time; `make soak` simulates ten times as much."""

import math

import numpy as np
import pytest

from specdec_bench.compare.intervals import MIN_REPEATS, median, rate, ratio_of_means, ratio_of_rates
from specdec_bench.compare.speedup import RunTimes, paired_ratio, pooled
from specdec_bench.metrics.timing import RequestTimes

NUM_CONVERSATIONS, NUM_REQUESTS = 80, 6
"""Two turns in three repeats each."""
TRUE_SPEEDUP = 1.5

simulated = pytest.mark.parametrize("num_simulations", [400, pytest.param(4000, marks=pytest.mark.soak)])


def assert_covers(covered: int, num_simulations: int) -> None:
    """95% up to 1.5 points, and two standard errors of what was simulated: 91.3% to 98.7% of 400."""
    tolerance = 0.015 + 2 * math.sqrt(0.95 * 0.05 / num_simulations)
    assert abs(covered / num_simulations - 0.95) <= tolerance


@simulated
def test_the_interval_covers_the_truth(num_simulations: int) -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(num_simulations):
        # How slow a prompt is on either side, and how well its text can be drafted; then every request's own noise.
        prompt = random.lognormal(0, 0.3, (NUM_CONVERSATIONS, 1))
        drafted = random.lognormal(-(0.25**2) / 2, 0.25, (NUM_CONVERSATIONS, 1))
        noise = random.lognormal(-(0.1**2) / 2, 0.1, (2, NUM_CONVERSATIONS, NUM_REQUESTS))
        plain_ms = (prompt * noise[0] * TRUE_SPEEDUP).mean(axis=1)
        speculative_ms = (prompt * drafted * noise[1]).mean(axis=1)
        interval = ratio_of_means(plain_ms, speculative_ms)
        assert interval.low is not None
        assert interval.high is not None
        covered += interval.low <= TRUE_SPEEDUP <= interval.high
    assert_covers(covered, num_simulations)


@simulated
def test_the_interval_covers_the_truth_where_the_machine_varies_too(num_simulations: int) -> None:
    random, covered = np.random.default_rng(0), 0
    keys = [(f"p{i}", turn, repeat) for i in range(NUM_CONVERSATIONS) for turn in range(2) for repeat in range(5)]
    of_prompt = np.repeat(np.arange(NUM_CONVERSATIONS), 10)
    of_repeat = np.tile(np.arange(5), 2 * NUM_CONVERSATIONS)
    for _ in range(num_simulations):
        prompt = random.lognormal(0, 0.3, NUM_CONVERSATIONS)[of_prompt]
        drafted = random.lognormal(-(0.25**2) / 2, 0.25, NUM_CONVERSATIONS)[of_prompt]
        machine = random.lognormal(-(0.05**2) / 2, 0.05, (2, 5))[:, of_repeat]
        noise = random.lognormal(-(0.1**2) / 2, 0.1, (2, len(keys)))
        plain, speculative = RunTimes(), RunTimes()
        plain_ms = prompt * machine[0] * noise[0] * TRUE_SPEEDUP
        speculative_ms = prompt * drafted * machine[1] * noise[1]
        for times, milliseconds in ((plain, plain_ms), (speculative, speculative_ms)):
            times.requests |= {
                key: RequestTimes(ttft_ms=0, e2e_ms=ms, tpot_ms=ms) for key, ms in zip(keys, milliseconds, strict=True)
            }
        interval = paired_ratio(pooled([plain]), pooled([speculative]), [(0, *key) for key in keys], "tpot_ms")
        assert interval.low is not None
        assert interval.high is not None
        covered += interval.low <= TRUE_SPEEDUP <= interval.high
    assert_covers(covered, num_simulations)


@pytest.mark.parametrize("num_runs", [3, 5])
@simulated
def test_the_interval_of_several_runs_covers_the_truth_where_the_machine_drifts(
    num_runs: int, num_simulations: int
) -> None:
    random, covered = np.random.default_rng(0), 0
    keys = [(run, f"p{i}", turn, 0) for run in range(num_runs) for i in range(NUM_CONVERSATIONS) for turn in range(2)]
    of_run = np.repeat(np.arange(num_runs), 2 * NUM_CONVERSATIONS)
    of_prompt = np.tile(np.repeat(np.arange(NUM_CONVERSATIONS), 2), num_runs)
    for _ in range(num_simulations):
        prompt = random.lognormal(0, 0.3, NUM_CONVERSATIONS)[of_prompt]
        drafted = random.lognormal(-(0.25**2) / 2, 0.25, NUM_CONVERSATIONS)[of_prompt]
        # It gets slower from pair to pair, as a random walk, and each run has a speed of its own.
        drift = np.exp(random.normal(0, 0.1, num_runs).cumsum())[of_run]
        machine = random.lognormal(-(0.04**2) / 2, 0.04, (2, num_runs))[:, of_run]
        noise = random.lognormal(-(0.1**2) / 2, 0.1, (2, len(keys)))
        sides = (
            prompt * drift * machine[0] * noise[0] * TRUE_SPEEDUP,
            prompt * drift * drafted * machine[1] * noise[1],
        )
        plain, speculative = (
            {key: RequestTimes(ttft_ms=0, e2e_ms=ms, tpot_ms=ms) for key, ms in zip(keys, side, strict=True)}
            for side in sides
        )
        interval = paired_ratio(plain, speculative, keys, "tpot_ms")
        assert interval.low is not None
        assert interval.high is not None
        covered += interval.low <= TRUE_SPEEDUP <= interval.high
    assert_covers(covered, num_simulations)


@simulated
def test_the_interval_of_throughput_covers_the_truth_from_the_fewest_repeats_on(num_simulations: int) -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(num_simulations):
        # Repeats of the same requests: about as many tokens each time, in a time that varies by 5%.
        tokens = random.normal(1000, 10, (2, MIN_REPEATS))
        seconds = random.lognormal(0, 0.05, (2, MIN_REPEATS))
        seconds[0] *= TRUE_SPEEDUP
        interval = ratio_of_rates((tokens[1], seconds[1]), (tokens[0], seconds[0]))
        assert interval.low is not None
        assert interval.high is not None
        covered += interval.low <= TRUE_SPEEDUP <= interval.high
    assert_covers(covered, num_simulations)


@simulated
def test_the_interval_of_a_median_covers_the_truth(num_simulations: int) -> None:
    # Two turns of a conversation are alike: as far apart as the conversations, and half as much again.
    random, covered = np.random.default_rng(0), 0
    units = np.repeat(np.arange(NUM_CONVERSATIONS), 2)
    for _ in range(num_simulations):
        conversation = random.normal(0, 1, NUM_CONVERSATIONS)[units]
        interval = median(100 + conversation + random.normal(0, 0.5, len(units)), units)
        assert interval.low is not None
        assert interval.high is not None
        covered += interval.low <= 100 <= interval.high
    assert_covers(covered, num_simulations)


@simulated
def test_the_interval_of_one_rate_covers_the_truth(num_simulations: int) -> None:
    random, covered = np.random.default_rng(0), 0
    for _ in range(num_simulations):
        interval = rate(random.normal(1000, 10, MIN_REPEATS), random.normal(1, 0.05, MIN_REPEATS))
        assert interval.low is not None
        assert interval.high is not None
        covered += interval.low <= 1000 <= interval.high
    assert_covers(covered, num_simulations)
