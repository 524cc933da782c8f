"""Latency and throughput, from the times at which chunks were received."""

from array import array
from typing import Any

import numpy as np

from specdec_bench.metrics.distribution import describe
from specdec_bench.records import RequestRecord

NS_PER_MS = 1e6
NS_PER_S = 1e9


class Timings:
    """Reduces requests to flat arrays of integers as they pass by, then computes the figures.

    `step_ns` and `step_tokens` have one entry a decode step; the others one entry a request.
    """

    def __init__(self) -> None:
        self._sent, self._ended = array("q"), array("q")
        self._ttft, self._e2e, self._queue = array("q"), array("q"), array("q")
        self._tpot_ns, self._tpot_tokens = array("q"), array("q")
        self._step_ns, self._step_tokens = array("q"), array("q")
        self._chunk_at, self._chunk_tokens = array("q"), array("q")
        self.num_merged = 0
        """Chunks after the first of their request that may hold several engine steps."""

    def add(self, record: RequestRecord) -> None:
        """Takes in one finished request of the measured window."""
        if record.sent_ns is None or not record.steps:
            return
        steps, sent = record.steps, record.sent_ns
        first, last = steps[0].received_ns, steps[-1].received_ns
        self._sent.append(sent)
        self._ended.append(last)
        self._queue.append(sent - record.scheduled_ns)
        self._ttft.append(first - sent)
        self._e2e.append(last - sent)
        later_tokens = len(record.output_token_ids) - steps[0].num_tokens
        if later_tokens:
            self._tpot_ns.append(last - first)
            self._tpot_tokens.append(later_tokens)
        is_plain = record.acceptance_source is None
        previous = first
        for index, step in enumerate(steps):
            self._chunk_at.append(step.received_ns)
            self._chunk_tokens.append(step.num_tokens)
            if index:
                self._step_ns.append(step.received_ns - previous)
                self._step_tokens.append(step.num_tokens)
                previous = step.received_ns
                self.num_merged += step.num_accepted is None and not (is_plain and step.num_tokens == 1)

    @property
    def merged_share(self) -> float | None:
        """Share of the chunks after the first that may hold several engine steps."""
        return self.num_merged / len(self._step_ns) if self._step_ns else None

    def latency(self) -> dict[str, Any]:
        """Returns the distributions in ms.

        Step times and inter-token latencies are empty where chunks were merged: their gaps are not steps.
        """
        step_ms = np.asarray(self._step_ns if not self.num_merged else [], dtype=np.int64) / NS_PER_MS
        step_tokens = np.asarray(self._step_tokens if not self.num_merged else [], dtype=np.int64)
        tpot_ms = np.asarray(self._tpot_ns, dtype=np.int64) / NS_PER_MS / np.asarray(self._tpot_tokens, dtype=np.int64)
        return {
            "ttft_ms": describe(np.asarray(self._ttft) / NS_PER_MS),
            "e2e_ms": describe(np.asarray(self._e2e) / NS_PER_MS),
            "tpot_ms": describe(tpot_ms),
            "step_time_ms": describe(step_ms),
            "itl_ms": describe(np.repeat(step_ms / step_tokens, step_tokens)),
            "queue_time_ms": describe(np.asarray(self._queue) / NS_PER_MS),
        }

    def throughput(self, concurrency: int | None, num_accelerators: int) -> dict[str, Any]:
        """Returns rates per second over the whole window, and over its steady part."""
        tokens = int(np.sum(np.asarray(self._chunk_tokens, dtype=np.int64)))
        duration_s = (max(self._ended) - min(self._sent)) / NS_PER_S if self._sent else None
        output_tps = tokens / duration_s if duration_s else None
        steady_s, steady_tokens = self._steady(concurrency)
        tpot_ns = np.asarray(self._tpot_ns, dtype=np.float64)
        moving = tpot_ns > 0
        per_user = np.asarray(self._tpot_tokens, dtype=np.float64)[moving] / (tpot_ns[moving] / NS_PER_S)
        return {
            "output_tps": output_tps,
            "output_tps_steady": steady_tokens / steady_s if steady_s else None,
            "output_tps_per_gpu": output_tps / num_accelerators
            if output_tps is not None and num_accelerators
            else None,
            "output_tps_per_user": float(per_user.mean()) if len(per_user) else None,
            "request_rate": len(self._sent) / duration_s if duration_s else None,
            "output_tokens": tokens,
            "duration_s": duration_s,
            "steady_duration_s": steady_s,
            "num_accelerators": num_accelerators,
        }

    def _steady(self, concurrency: int | None) -> tuple[float | None, int]:
        """Returns seconds and tokens from when the full concurrency was first in flight to when it last was.

        Short dips between the turns of a conversation lie within; ramp and drain do not.
        """
        if not self._sent or concurrency is None:
            return None, 0
        times = np.concatenate([np.asarray(self._sent, dtype=np.int64), np.asarray(self._ended, dtype=np.int64)])
        changes = np.concatenate([np.ones(len(self._sent)), -np.ones(len(self._ended))])
        # At one instant an end comes before a start: the slot is the same.
        order = np.lexsort((changes, times))
        in_flight = np.cumsum(changes[order])
        full = np.flatnonzero(in_flight >= concurrency)
        if not len(full):
            return None, 0
        began, ended = int(times[order][full[0]]), int(times[order][full[-1] + 1])
        if ended <= began:
            return None, 0
        at = np.asarray(self._chunk_at, dtype=np.int64)
        within = (at > began) & (at <= ended)
        return (ended - began) / NS_PER_S, int(np.asarray(self._chunk_tokens, dtype=np.int64)[within].sum())
