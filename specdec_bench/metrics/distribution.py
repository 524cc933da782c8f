"""Describes a sample."""

from collections.abc import Sequence
from typing import Any

import numpy as np

PERCENTILES = (25, 50, 75, 90, 95, 99)


def describe(values: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """Returns count, mean, sample standard deviation, extremes and percentiles (linear); undefined is None."""
    sample = np.asarray(values, dtype=np.float64)
    names = ["mean", "std", "min", *(f"p{p}" for p in PERCENTILES), "max"]
    if not len(sample):
        return {"count": 0, **dict.fromkeys(names)}
    percentiles = np.percentile(sample, PERCENTILES).tolist()
    std = float(sample.std(ddof=1)) if len(sample) > 1 else None
    figures = [float(sample.mean()), std, float(sample.min()), *percentiles, float(sample.max())]
    return {"count": len(sample), **dict(zip(names, figures, strict=True))}
