"""Draws of units, and their medians."""

import numpy as np
import pytest

from specdec_bench.compare.bootstrap import NUM_RESAMPLES, DrawnMedians, draw_units


def test_the_median_of_a_draw_can_be_counted() -> None:
    medians = DrawnMedians(np.array([30.0, 10.0, 20.0, 40.0]), np.array([0, 0, 1, 1]), 2)
    weights = np.array([[1, 1], [2, 0], [0, 2], [2, 1]])
    # 10, 20, 30, 40; 10, 10, 30, 30; 20, 20, 40, 40; 10, 10, 20, 30, 30, 40.
    assert medians.of(weights).tolist() == [25, 20, 30, 25]


@pytest.mark.parametrize(("num_values", "num_units"), [(1, 1), (7, 3), (50, 50), (1000, 37)])
def test_it_is_the_median_of_the_values_as_often_as_drawn(num_values: int, num_units: int) -> None:
    rng = np.random.default_rng(1)
    values, units = rng.normal(size=num_values), rng.permutation(np.arange(num_values) % num_units)
    weights = rng.integers(1, 4, size=(20, num_units))
    expected = [np.median(np.repeat(values, row[units])) for row in weights]
    assert DrawnMedians(values, units, num_units).of(weights) == pytest.approx(expected)


def test_every_draw_has_as_many_units_as_there_are() -> None:
    parts = list(draw_units(5, 4_000_000 // 600))
    assert [(start, len(weights)) for start, weights in parts] == [(0, 600), (600, 600), (1200, 600), (1800, 200)]
    weights = np.concatenate([weights for _, weights in parts])
    assert weights.shape == (NUM_RESAMPLES, 5)
    assert set(weights.sum(axis=1)) == {5}
