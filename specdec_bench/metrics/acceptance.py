"""Acceptance of drafts; `metrics/definitions.py` has the formulas.

Source of the drafted metrics: vLLM v1/spec_decode/metrics.py.
"""

from collections.abc import Hashable, Iterable, Sequence

import msgspec
import numpy as np

from specdec_bench.metrics.arrays import Floats, Integers
from specdec_bench.records.request import AcceptanceCounters, Record, RequestRecord
from specdec_bench.records.summary import MeanAcceptance, PooledAcceptance


class RequestAcceptance(Record, frozen=True, kw_only=True):
    """One request's counts. A count is None if its source does not report it."""

    output_tokens: int
    decode_steps: int | None
    """Target iterations after the prefill."""
    verify_steps: int | None = None
    """Decode steps that had at least one draft to verify."""
    proposed: int | None = None
    accepted: int | None = None
    truncated_steps: int | None = None
    histogram: tuple[int, ...] | None = None
    """`histogram[j]`: verify steps that accepted exactly j drafts; as long as the largest j."""


def request_acceptance(record: RequestRecord) -> RequestAcceptance:
    """Returns the counts of one finished request, from the best source in its record.

    The first chunk is the prefill's, not a decode step. If the engine reports `num_accepted` for every later chunk,
    each chunk is one engine step and the counts are exact. Otherwise the engine's counters are used. With neither,
    each chunk counts as a step (`acceptance_source` "stream"), which overstates the tokens of one step.
    """
    output_tokens, decode, source = record.num_output_tokens, record.steps[1:], record.acceptance_source
    if source in ("stream", "engine_total"):
        is_counted = source == "stream" or record.steps_are_exact
        return RequestAcceptance(output_tokens=output_tokens, decode_steps=len(decode) if is_counted else None)
    # The first chunk may hold the prefill and any number of steps, whether or not later chunks follow.
    first = record.steps[0] if record.steps else None
    is_exact = first is None or first.num_accepted is not None or first.num_tokens == 1
    is_proposed_known = True
    verify_steps = proposed = accepted = truncated_steps = 0
    histogram: list[int] = []
    for step in decode:  # one pass and few names: a large run has millions of steps
        num_accepted, num_proposed = step.num_accepted, step.num_proposed
        if num_accepted is None:
            is_exact = False
            break
        accepted += num_accepted
        truncated_steps += step.num_tokens <= num_accepted
        if num_proposed is None:
            is_proposed_known = False
        elif num_proposed:
            verify_steps += 1
            proposed += num_proposed
            while len(histogram) <= num_accepted:
                histogram.append(0)
            histogram[num_accepted] += 1
    if is_exact and is_proposed_known:
        return RequestAcceptance(
            output_tokens=output_tokens,
            decode_steps=len(decode),
            verify_steps=verify_steps,
            proposed=proposed,
            accepted=accepted,
            truncated_steps=truncated_steps,
            histogram=tuple(histogram),
        )
    if record.counters is not None:
        counted = from_counters(record.counters, output_tokens)
        if not is_exact:
            return counted
        return msgspec.structs.replace(counted, decode_steps=len(decode), truncated_steps=truncated_steps)
    if source is None:  # plain decoding: one token a step, however chunks were merged
        return RequestAcceptance(output_tokens=output_tokens, decode_steps=max(output_tokens - 1, 0))
    if is_exact:  # the engine pads its proposals, so it is unknown which steps had any
        return RequestAcceptance(
            output_tokens=output_tokens, decode_steps=len(decode), accepted=accepted, truncated_steps=truncated_steps
        )
    return RequestAcceptance(output_tokens=output_tokens, decode_steps=None)


def from_counters(counters: AcceptanceCounters, output_tokens: int) -> RequestAcceptance:
    """Returns the counts that an engine kept itself."""
    histogram = counters.histogram
    if histogram is None and counters.per_step_accepted is not None:
        histogram = _histogram(counters.per_step_accepted)
    return RequestAcceptance(
        output_tokens=output_tokens,
        decode_steps=counters.num_decode_steps,
        verify_steps=counters.num_verify_steps,
        proposed=counters.num_proposed,
        accepted=counters.num_accepted,
        histogram=histogram,
    )


def pool(counts: Iterable[RequestAcceptance], draft_length: int) -> PooledAcceptance:
    """Returns the pooled metrics: the formulas, applied to sums over the requests.

    A sum is undefined if any of the requests does not report its count.
    """
    requests = list(counts)
    output_tokens = sum(request.output_tokens for request in requests)
    emitted = sum(max(request.output_tokens - 1, 0) for request in requests)  # less one prefill token each
    decode_steps = _sum([request.decode_steps for request in requests])
    verify_steps = _sum([request.verify_steps for request in requests])
    proposed = _sum([request.proposed for request in requests])
    accepted = _sum([request.accepted for request in requests])
    histogram = _sum_histograms([request.histogram for request in requests], draft_length)
    joint = joint_rates(histogram)
    return PooledAcceptance(
        output_tokens=output_tokens,
        decode_steps=decode_steps,
        verify_steps=verify_steps,
        proposed=proposed,
        accepted=accepted,
        truncated_steps=_sum([request.truncated_steps for request in requests]),
        acceptance_length=_ratio(emitted, decode_steps),
        acceptance_length_drafted=None if accepted is None or not verify_steps else 1 + accepted / verify_steps,
        draft_acceptance_rate=_ratio(accepted, proposed),
        acceptance_joint=joint,
        acceptance_conditional=conditional_rates(joint),
        acceptance_histogram=histogram,
    )


class AcceptanceByRequest:
    """The metrics of each request alone, one row per request, for means over requests. Undefined values are NaN."""

    def __init__(self, counts: Sequence[RequestAcceptance], draft_length: int) -> None:
        emitted = _column([max(request.output_tokens - 1, 0) for request in counts])
        decode_steps, verify_steps = (
            _column([getattr(r, n) for r in counts]) for n in ("decode_steps", "verify_steps")
        )
        proposed, accepted = (_column([getattr(r, n) for r in counts]) for n in ("proposed", "accepted"))
        self._length = _divide(emitted, decode_steps)
        self._length_drafted = 1 + _divide(accepted, verify_steps)
        self._rate = _divide(accepted, proposed)
        width = draft_length + 1
        nothing = (np.nan,) * width
        histogram = np.array(
            [nothing if r.histogram is None else r.histogram + (0,) * (width - len(r.histogram)) for r in counts],
            dtype=np.float64,
        ).reshape(len(counts), width)
        at_least = histogram[:, ::-1].cumsum(axis=1)[:, ::-1]
        joint = _divide(at_least[:, 1:], at_least[:, :1])
        conditional = _divide(
            joint, np.concatenate([np.ones((len(counts), 1)), joint[:, :-1]], axis=1)[:, :draft_length]
        )
        self._joint, self._conditional, self._histogram = joint, conditional, histogram
        self._drafts = draft_length > 0
        self._is_histogram_known = np.array([r.histogram is not None for r in counts], dtype=bool)

    def mean(self, chosen: Integers | None = None, groups: Integers | None = None) -> MeanAcceptance:
        """Returns the mean of each metric over the chosen requests for which it is defined.

        Args:
            chosen: indices of requests; None takes all.
            groups: the conversation number of every request, not only of the chosen ones. If given, the turns of each
                conversation are averaged first, then the conversations.
        """
        rows = slice(None) if chosen is None else chosen
        numbers = None if groups is None else np.unique(groups[rows], return_inverse=True)[1]
        has_lists = self._drafts and bool(self._is_histogram_known[rows].any())

        def scalar(values: Floats) -> float | None:
            return _mean(values[rows, None], numbers)[0]

        def by_position(values: Floats) -> list[float | None] | None:
            return _mean(values[rows], numbers) if has_lists else None

        return MeanAcceptance(
            acceptance_length=scalar(self._length),
            acceptance_length_drafted=scalar(self._length_drafted),
            draft_acceptance_rate=scalar(self._rate),
            acceptance_joint=by_position(self._joint),
            acceptance_conditional=by_position(self._conditional),
            acceptance_histogram=by_position(self._histogram),
        )


def macro(
    counts: Sequence[RequestAcceptance], draft_length: int, groups: Sequence[Hashable] | None = None
) -> MeanAcceptance:
    """Returns the mean of each per-request metric over the requests for which it is defined.

    Args:
        counts: the requests.
        draft_length: K, the length of the lists.
        groups: the conversation of each request. If given, turns are averaged first, then the conversations.
    """
    return AcceptanceByRequest(counts, draft_length).mean(groups=None if groups is None else number_groups(groups))


def number_groups(keys: Sequence[Hashable]) -> Integers:
    """Returns a number for each key; equal keys get equal numbers."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def _column(values: Sequence[int | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _divide(part: Floats, whole: Floats) -> Floats:
    quotient = np.full(part.shape, np.nan)
    np.divide(part, whole, out=quotient, where=~np.isnan(whole) & (whole != 0))
    return quotient


def _mean(values: Floats, groups: Integers | None) -> list[float | None]:
    """Returns the mean of each column of a (requests, columns) array; with groups, the mean of the groups' means."""
    if groups is not None and len(values):
        size = int(groups.max()) + 1
        columns = values.T
        counts = np.array([np.bincount(groups, ~np.isnan(column), size) for column in columns])
        sums = np.array([np.bincount(groups, np.nan_to_num(column), size) for column in columns])
        values = _divide(sums, counts).T
    defined = ~np.isnan(values)
    totals = np.where(defined, values, 0).sum(axis=0)
    return [float(total / n) if n else None for total, n in zip(totals, defined.sum(axis=0).tolist(), strict=True)]


def _histogram(accepted: Sequence[int]) -> tuple[int, ...]:
    counts = [0] * (max(accepted, default=-1) + 1)
    for number in accepted:
        counts[number] += 1
    return tuple(counts)


def _sum(values: Sequence[int | None]) -> int | None:
    defined = [value for value in values if value is not None]
    return sum(defined) if len(defined) == len(values) else None


def _sum_histograms(histograms: Sequence[tuple[int, ...] | None], draft_length: int) -> list[int] | None:
    """Returns the summed histogram, dense up to K; None if nothing is drafted or a request has no histogram."""
    known = [histogram for histogram in histograms if histogram is not None]
    if len(known) < len(histograms) or draft_length == 0:
        return None
    total = [0] * (draft_length + 1)
    for histogram in known:
        for accepted, number in enumerate(histogram):
            total[accepted] += number
    return total


def joint_rates(histogram: Sequence[int] | None) -> list[float | None] | None:
    """Returns the share of verify steps that accepted at least i drafts, i = 1..K."""
    if histogram is None:
        return None
    steps = sum(histogram)
    return [sum(histogram[i:]) / steps if steps else None for i in range(1, len(histogram))]


def conditional_rates(joint: Sequence[float | None] | None) -> list[float | None] | None:
    """Returns the share of verify steps that accepted at least i drafts, of those that accepted i - 1."""
    if joint is None:
        return None
    before: list[float | None] = [1.0, *joint[:-1]]
    return [None if now is None or not then else now / then for now, then in zip(joint, before, strict=True)]


def _ratio(part: int | None, whole: int | None) -> float | None:
    return None if part is None or not whole else part / whole
