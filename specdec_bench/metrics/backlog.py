"""Whether requests arrive faster than they are answered."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from specdec_bench.metrics.arrays import Floats
from specdec_bench.records.request import RequestRecord

MOST_GROWTH = 0.05
"""A backlog grows if it gains more than this share of the requests that become due."""
MOST_REQUESTS = 2.0
"""A gain of no more than these is what few requests in flight come and go by."""


class BacklogGrowth(NamedTuple):
    """How much a backlog grew between the second and the last quarter of the arrivals."""

    num_requests: float
    """Mean backlog of the last quarter less that of the second."""
    num_due: int
    """Requests that became due between the middles of these quarters."""


def backlog_growth(records: Iterable[RequestRecord]) -> BacklogGrowth:
    """Returns how much the backlog of one run grew.

    The backlog at a time is the number of requests that are due and have not ended. The window goes from the first to
    the last arrival of a conversation, and is divided into quarters. The first quarter is left out, because the run
    begins with nothing in flight. A backlog that gains a share g of the requests that become due means that the engine
    answers a share 1 - g of what arrives.

    Args:
        records: of the run. Warm-up requests and those that were never sent are left out.
    """
    spans, arrivals = [], []
    for record in records:
        if record.phase == "measure" and record.sent_ns is not None:
            ended_ns = record.steps[-1].received_ns if record.steps else record.sent_ns
            spans.append((record.scheduled_ns, ended_ns))
            arrivals += [record.scheduled_ns] if record.turn == 0 else []
    if not arrivals or (length := max(arrivals) - min(arrivals)) == 0:
        return BacklogGrowth(0.0, 0)
    due, ended = (np.array(spans, dtype=np.int64).T - min(arrivals)) / length
    num_due = int(np.count_nonzero((due > 3 / 8) & (due <= 7 / 8)))
    return BacklogGrowth(_mean_backlog(due, ended, 3 / 4, 1) - _mean_backlog(due, ended, 1 / 4, 1 / 2), num_due)


def _mean_backlog(due: Floats, ended: Floats, begin: float, end: float) -> float:
    """Returns the mean number of requests that are due and have not ended, over a part of the window."""
    overlap = np.minimum(ended, end) - np.maximum(due, begin)
    return float(np.maximum(overlap, 0).sum() / (end - begin))


def is_growing(runs: Sequence[BacklogGrowth]) -> bool:
    """Whether the backlog grows, over all runs of one load: beyond both `MOST_GROWTH` and `MOST_REQUESTS`."""
    num_requests, num_due = sum(run.num_requests for run in runs), sum(run.num_due for run in runs)
    return num_requests > MOST_GROWTH * num_due and num_requests > MOST_REQUESTS * len(runs)
