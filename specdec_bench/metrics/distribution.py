"""Describes a sample."""

from collections.abc import Sequence

import numpy as np

from specdec_bench.metrics.arrays import Floats, Integers
from specdec_bench.records.summary import Distribution

PERCENTILES = (25, 50, 75, 90, 95, 99)


def describe(values: Sequence[float] | Floats | Integers) -> Distribution:
    """Returns count, mean, sample standard deviation, extremes and percentiles (linear); undefined is None."""
    sample = np.asarray(values, dtype=np.float64)
    if not len(sample):
        return Distribution()
    percentiles = np.percentile(sample, PERCENTILES).tolist()
    return Distribution(
        count=len(sample),
        mean=float(sample.mean()),
        std=float(sample.std(ddof=1)) if len(sample) > 1 else None,
        min=float(sample.min()),
        **{f"p{p}": value for p, value in zip(PERCENTILES, percentiles, strict=True)},
        max=float(sample.max()),
    )
