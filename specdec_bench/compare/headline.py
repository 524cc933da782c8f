"""The 95% intervals of a cell's headline metrics, over its conversations.

Turns and repeats of one prompt are not independent, so whole conversations are drawn.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from specdec_bench.compare.intervals import median, ratios_of_means
from specdec_bench.metrics.acceptance import request_acceptance
from specdec_bench.metrics.arrays import Floats
from specdec_bench.metrics.declarations import METRICS, column_name
from specdec_bench.metrics.timing import request_times
from specdec_bench.records.interval import Interval
from specdec_bench.records.request import RequestRecord

RATIOS = {column_name(metric): metric.terms for metric in METRICS if metric.terms is not None}
"""Metrics that divide one sum over requests by another. Maps each column to the function for a request's two terms."""


class Conversations:
    """A run's sums for its headline metrics, kept by conversation and updated request by request."""

    def __init__(self, records: Iterable[RequestRecord] = ()) -> None:
        self.sums: dict[str, Floats] = {}
        """By prompt: numerators and denominators of `RATIOS`, (ratios, 2)."""
        self.ttft_ms: dict[str, list[float]] = {}
        for record in records:
            self.add(record)

    def add(self, record: RequestRecord) -> None:
        """Adds one request, unless it belongs to the warm-up or did not finish."""
        times = request_times(record)
        if record.phase != "measure" or record.error is not None or times is None:
            return
        counts = request_acceptance(record)
        terms = np.array([terms_of(counts, times) for terms_of in RATIOS.values()], dtype=np.float64)
        self.sums[record.prompt_id] = self.sums.get(record.prompt_id, 0.0) + terms
        self.ttft_ms.setdefault(record.prompt_id, []).append(times.ttft_ms)


def pooled_metrics(runs: Sequence[Conversations]) -> dict[str, Interval]:
    """Returns the metrics of `RATIOS` and `ttft_ms_p50`, over all requests of one or several runs of a cell."""
    prompts = sorted(set().union(*(run.sums for run in runs)))
    nothing = np.zeros((len(RATIOS), 2))
    sums = np.zeros((len(prompts), len(RATIOS), 2))
    for run in runs:
        sums += np.array([run.sums.get(prompt, nothing) for prompt in prompts]).reshape(sums.shape)
    values = [(unit, ms) for unit, p in enumerate(prompts) for run in runs for ms in run.ttft_ms.get(p, ())]
    units, ttft_ms = np.array(values).reshape(-1, 2).T
    ratios = ratios_of_means(sums[:, :, 0].T, sums[:, :, 1].T)
    return dict(zip(RATIOS, ratios, strict=True)) | {"ttft_ms_p50": median(ttft_ms, units.astype(np.int64))}
