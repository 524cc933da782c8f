"""Intervals of a few values whose ends can be told by hand."""

import numpy as np
import pytest
from msgspec.structs import astuple

from specdec_bench.compare.intervals import (
    Interval,
    holm,
    median,
    p_value_of_ratio,
    rate,
    ratio_of_means,
    ratios_of_means,
)

NOTHING = Interval(value=None, low=None, high=None)


def test_what_does_not_vary_has_an_interval_of_one_value() -> None:
    assert ratio_of_means(np.array([4.0, 8.0]), np.array([2.0, 4.0])) == Interval(value=2.0, low=2.0, high=2.0)


def test_one_pair_says_nothing_of_others() -> None:
    assert ratio_of_means(np.array([4.0]), np.array([2.0])) == Interval(value=2.0, low=None, high=None)
    assert ratio_of_means(np.array([]), np.array([])) == NOTHING


def test_several_ratios_are_drawn_as_each_by_itself() -> None:
    random = np.random.default_rng(0)
    tops, bottoms = random.uniform(1, 2, (3, 40)), random.uniform(1, 2, (3, 40))
    tops[1, 7] = np.nan
    together = ratios_of_means(tops, bottoms)
    assert together[1] == NOTHING
    assert astuple(together[0]) == pytest.approx(astuple(ratio_of_means(tops[0], bottoms[0])))
    assert astuple(together[2]) == pytest.approx(astuple(ratio_of_means(tops[2], bottoms[2])))


def test_a_ratio_to_nothing_is_undefined() -> None:
    assert ratio_of_means(np.array([1.0, 2.0]), np.zeros(2)) == NOTHING


def test_the_median_is_drawn_by_units() -> None:
    # Of two units a draw is (1, 1, 1), (9, 9, 9) or both; both ends are seen in more than 2.5% of the draws.
    values, units = np.array([9.0, 1, 1, 9, 1, 9]), np.array([1, 0, 0, 1, 0, 1])
    assert median(values, units) == Interval(value=5.0, low=1.0, high=9.0)
    assert median(values, np.zeros(6, dtype=int)) == Interval(value=5.0, low=None, high=None)
    assert median(np.array([]), np.array([])) == NOTHING


def test_a_rate_has_an_interval_from_five_repeats_on() -> None:
    # 10 tokens in 1 s, and in 0.8 and 1.2 s: residuals of 2, so a variance of 8 / 4 over 100 squared means.
    seconds = np.array([1.0, 0.8, 1.2, 1.0, 1.0])
    found = rate(np.full(5, 10.0), seconds)
    margin = np.exp(2.776 * np.sqrt(2 / 100 / 5))
    assert found == Interval(
        value=10.0, low=pytest.approx(10 / margin, rel=1e-3), high=pytest.approx(10 * margin, rel=1e-3)
    )
    assert rate(np.full(4, 10.0), seconds[:4]).low is None


def test_holm_by_hand() -> None:
    # The smallest times 4, the next times 3, then 2: never less than the one before, never above 1.
    assert holm([0.01, 0.04, 0.03, 0.9]) == pytest.approx([0.04, 0.09, 0.09, 0.9])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_p_value_by_hand() -> None:
    # Conversations all twice as slow, so that they add nothing; runs 1, 2 and 4 times, which is log 2 on average with
    # a standard error of log 2 / sqrt(3): t = sqrt(3) with 2 degrees of freedom, of which p = 1 - sqrt(3 / 5).
    conversations = np.array([2.0, 4.0]), np.array([1.0, 2.0])
    runs = np.array([1.0, 2.0, 4.0]), np.ones(3)
    assert p_value_of_ratio(conversations, runs) == pytest.approx(1 - np.sqrt(3 / 5))
    # Runs that do not differ add nothing: relative deviations of 0.2 and -0.2 beside a mean ratio of 1.
    conversations = np.array([12.0, 8.0]), np.array([10.0, 10.0])
    assert p_value_of_ratio(conversations, (np.ones(3), np.ones(3))) == pytest.approx(1)


def test_what_does_not_vary_differs_or_not() -> None:
    same = np.array([3.0, 5.0]), np.array([3.0, 5.0])
    twice = np.array([6.0, 10.0]), np.array([3.0, 5.0])
    assert (p_value_of_ratio(same, same), p_value_of_ratio(twice, twice)) == (1.0, 0.0)


def test_nothing_can_be_said_of_one_run_or_of_one_conversation() -> None:
    one, several = (np.array([2.0]), np.array([1.0])), (np.array([2.0, 4.0]), np.array([1.0, 2.0]))
    assert p_value_of_ratio(one, several) == p_value_of_ratio(several, one) == 1.0
    assert p_value_of_ratio((np.zeros(2), np.ones(2)), several) == 1.0
