"""Bootstrap draws of units, such as conversations, and the medians of what the units hold."""

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from specdec_bench.metrics.arrays import Floats, Integers

NUM_RESAMPLES = 2000
MAX_DRAWN = 4_000_000
"""The most numbers that a bootstrap holds at once."""


def draw_units(num_units: int, num_values: int = 0) -> Iterator[tuple[int, Integers]]:
    """Yields all draws, some at a time: the number of the first, and how often each has each unit, (draws, units).

    Args:
        num_units: how many are drawn from, and how many are drawn.
        num_values: how many numbers are looked at in each draw, where these are more than units.
    """
    rng, size = np.random.default_rng(0), max(MAX_DRAWN // max(num_units, num_values), 1)
    for start in range(0, NUM_RESAMPLES, size):
        number = min(size, NUM_RESAMPLES - start)
        drawn = rng.integers(0, num_units, size=(number, num_units))
        drawn += num_units * np.arange(number)[:, np.newaxis]
        weights = np.bincount(drawn.ravel(), minlength=number * num_units).reshape(number, num_units)
        yield start, weights


class DrawnMedians:
    """The medians of values that belong to units, of which some are drawn several times and others not at all.

    The values are sorted once and cut into blocks. A draw's weights are summed by block, so that values are only looked
    at one by one in the block that holds the median.
    """

    def __init__(self, values: Floats, units: Integers, num_units: int) -> None:
        """Sorts the values.

        Args:
            values: (values,), at least one.
            units: (values,): the unit of each value, numbered from 0.
            num_units: how many units there are.
        """
        num_values = len(values)
        order = np.argsort(values, kind="stable")
        self._values, self._units = values[order], units[order]
        self._block_size = max(int(np.sqrt(num_values)), 1)
        blocks = np.arange(num_values) // self._block_size
        entries = (np.ones(num_values), (self._units, blocks))
        self._counts = sparse.csr_array(entries, shape=(num_units, int(blocks[-1]) + 1))

    def of(self, weights: Integers) -> Floats:
        """Returns the median of each draw: of an even number of values the mean of the two middle ones.

        Args:
            weights: (draws, units): how often each unit was drawn.
        """
        by_block = (weights @ self._counts).cumsum(axis=1).astype(np.int64)
        totals = by_block[:, -1]
        lower, upper = (self._at(weights, by_block, places) for places in ((totals - 1) // 2, totals // 2))
        medians: Floats = (lower + upper) / 2
        return medians

    def _at(self, weights: Integers, by_block: Integers, places: Integers) -> Floats:
        """Returns the value at a place of each draw's sorted values, from 0."""
        rows = np.arange(len(places))
        blocks = (by_block > places[:, np.newaxis]).argmax(axis=1)
        before = np.where(blocks > 0, by_block[rows, blocks - 1], 0)
        inside = blocks[:, np.newaxis] * self._block_size + np.arange(self._block_size)
        inside = np.minimum(inside, len(self._values) - 1)  # the last block may be short; its end is never reached
        cumulative = weights[rows[:, np.newaxis], self._units[inside]].cumsum(axis=1) + before[:, np.newaxis]
        found = inside[rows, (cumulative > places[:, np.newaxis]).argmax(axis=1)]
        chosen: Floats = self._values[found]
        return chosen
