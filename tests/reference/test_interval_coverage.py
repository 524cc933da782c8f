"""Whether the 95% interval of a speedup holds the true one 95% of the time."""

import numpy as np

from specdec_bench.metrics.speedup import MIN_REPEATS, ratio_of_means, ratio_of_rates

NUM_SIMULATIONS = 2000
NUM_CONVERSATIONS, NUM_REQUESTS = 80, 6
"""Two turns in three repeats each."""
TRUE_SPEEDUP = 1.5


def test_the_interval_covers_the_truth() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(NUM_SIMULATIONS):
        # How slow a prompt is on either side, and how well its text can be drafted; then every request's own noise.
        prompt = random.lognormal(0, 0.3, (NUM_CONVERSATIONS, 1))
        drafted = random.lognormal(-(0.25**2) / 2, 0.25, (NUM_CONVERSATIONS, 1))
        noise = random.lognormal(-(0.1**2) / 2, 0.1, (2, NUM_CONVERSATIONS, NUM_REQUESTS))
        plain_ms = (prompt * noise[0] * TRUE_SPEEDUP).mean(axis=1)
        speculative_ms = (prompt * drafted * noise[1]).mean(axis=1)
        interval = ratio_of_means(plain_ms, speculative_ms)
        assert interval["low"] is not None
        assert interval["high"] is not None
        covered += interval["low"] <= TRUE_SPEEDUP <= interval["high"]
    assert 0.925 <= covered / NUM_SIMULATIONS <= 0.97


def test_the_interval_of_throughput_covers_the_truth_from_the_fewest_repeats_on() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(NUM_SIMULATIONS):
        # Repeats of the same requests: about as many tokens each time, in a time that varies by 5%.
        tokens = random.normal(1000, 10, (2, MIN_REPEATS))
        seconds = random.lognormal(0, 0.05, (2, MIN_REPEATS))
        seconds[0] *= TRUE_SPEEDUP
        interval = ratio_of_rates((tokens[1], seconds[1]), (tokens[0], seconds[0]))
        assert interval["low"] is not None
        assert interval["high"] is not None
        covered += interval["low"] <= TRUE_SPEEDUP <= interval["high"]
    assert 0.925 <= covered / NUM_SIMULATIONS <= 0.97
