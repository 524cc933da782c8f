"""Latency and throughput, from the times at which chunks were received."""

from array import array
from operator import eq
from typing import NamedTuple

import numpy as np

from specdec_bench.metrics.arrays import Floats, Integers
from specdec_bench.metrics.distribution import describe
from specdec_bench.records.request import RequestRecord
from specdec_bench.records.summary import Latency, Throughput

NS_PER_MS = 1e6
NS_PER_S = 1e9
MAX_JOINED_SHARE = 0.01
"""Above it the 99th percentile of the step times would be that of a network that buffers."""


class RequestTimes(NamedTuple):
    """One request's times, in ms."""

    ttft_ms: float
    tpot_ms: float | None
    """None if the request came in one chunk."""
    e2e_ms: float
    later_tokens: int = 0
    """Tokens after the first chunk, which arrived during `decode_ms`."""
    decode_ms: float = 0.0
    """From the first chunk to the last."""
    queue_ms: float = 0.0
    """From when it was due to when it was sent."""
    ttft_from_schedule_ms: float = 0.0
    e2e_from_schedule_ms: float = 0.0


def request_times(record: RequestRecord) -> RequestTimes | None:
    """Returns ttft, tpot and e2e of one request, up to the last tokens received; None if none were."""
    steps = [step for step in record.steps if step.num_tokens > 0]
    if record.sent_ns is None or not steps:
        return None
    first, last = steps[0], steps[-1]
    later_tokens = record.num_output_tokens - first.num_tokens
    decode_ms = (last.received_ns - first.received_ns) / NS_PER_MS  # not e2e - ttft, which would round twice
    return RequestTimes(
        ttft_ms=(first.received_ns - record.sent_ns) / NS_PER_MS,
        tpot_ms=decode_ms / later_tokens if later_tokens > 0 else None,
        e2e_ms=(last.received_ns - record.sent_ns) / NS_PER_MS,
        later_tokens=max(later_tokens, 0),
        decode_ms=decode_ms,
        queue_ms=(record.sent_ns - record.scheduled_ns) / NS_PER_MS,
        ttft_from_schedule_ms=(first.received_ns - record.scheduled_ns) / NS_PER_MS,
        e2e_from_schedule_ms=(last.received_ns - record.scheduled_ns) / NS_PER_MS,
    )


class Timings:
    """Collects requests into flat arrays of integers, then computes the metrics.

    `_at` and `_tokens` have one entry per chunk, the others one entry per request.
    """

    def __init__(self) -> None:
        self._scheduled, self._sent = array("q"), array("q")
        self._output_tokens, self._num_chunks, self._num_merged = array("q"), array("q"), array("q")
        self._at, self._tokens = array("q"), array("q")
        self.num_joined = 0
        """Chunks that have the time of the one before, with which they arrived in one read."""

    def add(self, record: RequestRecord) -> None:
        """Takes in one finished request of the measured window."""
        steps = record.steps
        if record.sent_ns is None or not steps:
            return
        self._scheduled.append(record.scheduled_ns)
        self._sent.append(record.sent_ns)
        self._output_tokens.append(record.num_output_tokens)
        self._num_chunks.append(len(steps))
        at_ns = [step.received_ns for step in steps]
        self._at.extend(at_ns)
        self.num_joined += sum(map(eq, at_ns, at_ns[1:]))
        self._tokens.extend([step.num_tokens for step in steps])
        unknown = [] if record.steps_are_exact else [step for step in steps[1:] if step.num_accepted is None]
        if record.acceptance_source is None:  # plain decoding: a chunk of one token is one step
            unknown = [step for step in unknown if step.num_tokens > 1]
        self._num_merged.append(len(unknown))

    @property
    def num_merged(self) -> int:
        """Chunks after the first of their request that may hold several engine steps."""
        return sum(self._num_merged)

    @property
    def merged_share(self) -> float | None:
        """Share of the chunks after the first that may hold several engine steps."""
        return self._share_of_later(self.num_merged)

    @property
    def joined_share(self) -> float | None:
        """Share of the chunks after the first that arrived together with the one before."""
        return self._share_of_later(self.num_joined)

    def _share_of_later(self, num_chunks: int) -> float | None:
        later = len(self._at) - len(self._sent)
        return num_chunks / later if later else None

    def latency(self, chosen: Integers | None = None) -> Latency:
        """Returns the distributions in ms, of all requests or of those at the chosen indices.

        Step times and inter-token latencies are empty if chunks were merged, or more than `MAX_JOINED_SHARE` of them
        joined: the gaps between those are not steps.
        """
        rows = np.arange(len(self._sent)) if chosen is None else chosen
        first_at, last_at, later_tokens = (column[rows] for column in self._requests())
        sent, scheduled = _int64(self._sent)[rows], _int64(self._scheduled)[rows]
        step_ms, step_tokens = self._steps(rows)
        with_tpot = later_tokens > 0
        return Latency(
            ttft_ms=describe((first_at - sent) / NS_PER_MS),
            e2e_ms=describe((last_at - sent) / NS_PER_MS),
            tpot_ms=describe((last_at - first_at)[with_tpot] / NS_PER_MS / later_tokens[with_tpot]),
            step_time_ms=describe(step_ms),
            itl_ms=describe(np.repeat(step_ms / step_tokens, step_tokens)),
            queue_time_ms=describe((sent - scheduled) / NS_PER_MS),
            ttft_from_schedule_ms=describe((first_at - scheduled) / NS_PER_MS),
            e2e_from_schedule_ms=describe((last_at - scheduled) / NS_PER_MS),
        )

    def samples_ms(self) -> tuple[Floats, Floats]:
        """Returns every step time (none where `latency` has none) and every TTFT, in ms."""
        first_at, _, _ = self._requests()
        return self._steps(np.arange(len(self._sent)))[0], (first_at - _int64(self._sent)) / NS_PER_MS

    def _requests(self) -> tuple[Integers, Integers, Integers]:
        """Returns each request's first and last arrival (ns) and its tokens after the first chunk."""
        num_chunks, at = _int64(self._num_chunks), _int64(self._at)
        first = np.cumsum(num_chunks) - num_chunks
        later_tokens = _int64(self._output_tokens) - _int64(self._tokens)[first]
        return at[first], at[first + num_chunks - 1], later_tokens

    def _steps(self, rows: Integers) -> tuple[Floats, Integers]:
        """Returns time in ms and tokens of every decode step of those requests; empty if `latency` has none."""
        are_joined = (self.joined_share or 0) > MAX_JOINED_SHARE
        if are_joined or _int64(self._num_merged)[rows].any() or not len(rows):
            return np.empty(0), np.empty(0, dtype=np.int64)
        num_chunks = _int64(self._num_chunks)
        is_chosen = np.zeros(len(num_chunks), dtype=bool)
        is_chosen[rows] = True
        is_step = np.repeat(is_chosen, num_chunks)
        is_step[np.cumsum(num_chunks) - num_chunks] = False  # the first chunk is the prefill's
        gaps = np.diff(_int64(self._at), prepend=0)
        return gaps[is_step] / NS_PER_MS, _int64(self._tokens)[is_step]

    def throughput(self, max_in_flight: int | None, num_accelerators: int) -> Throughput:
        """Returns rates per second over the whole window and over its steady part. An open load has no steady part."""
        tokens = int(_int64(self._tokens).sum())
        first_at, last_at, later_tokens = self._requests()
        duration_s = (int(last_at.max()) - min(self._sent)) / NS_PER_S if self._sent else None
        output_tps = tokens / duration_s if duration_s else None
        steady_s, steady_tokens = self._steady(max_in_flight, last_at)
        decode_ns = last_at - first_at
        decode_s = int(decode_ns.sum()) / NS_PER_S
        moving = (decode_ns > 0) & (later_tokens > 0)
        return Throughput(
            output_tps=output_tps,
            output_tps_steady=steady_tokens / steady_s if steady_s else None,
            output_tps_per_gpu=output_tps / num_accelerators if output_tps is not None and num_accelerators else None,
            output_tps_per_user=int(later_tokens.sum()) / decode_s if decode_s else None,
            output_tps_per_request=describe(later_tokens[moving] / (decode_ns[moving] / NS_PER_S)),
            request_rate=len(self._sent) / duration_s if duration_s else None,
            output_tokens=tokens,
            duration_s=duration_s,
            steady_duration_s=steady_s,
            num_accelerators=num_accelerators,
        )

    def _steady(self, max_in_flight: int | None, ended: Integers) -> tuple[float | None, int]:
        """Returns the seconds and tokens between the first and the last moment of full concurrency.

        That includes short dips between the turns of a conversation, but neither ramp nor drain.
        """
        if not self._sent or max_in_flight is None:
            return None, 0
        times = np.concatenate([_int64(self._sent), ended])
        changes = np.concatenate([np.ones(len(self._sent)), -np.ones(len(ended))])
        # At equal times an end sorts before a start, which takes over its slot.
        order = np.lexsort((changes, times))
        in_flight = np.cumsum(changes[order])
        full = np.flatnonzero(in_flight >= max_in_flight)
        if not len(full):
            return None, 0
        first, last = int(times[order][full[0]]), int(times[order][full[-1] + 1])
        if last <= first:
            return None, 0
        at = _int64(self._at)
        within = (at > first) & (at <= last)
        return (last - first) / NS_PER_S, int(_int64(self._tokens)[within].sum())


def _int64(values: "array[int]") -> Integers:
    return np.asarray(values, dtype=np.int64)
