"""Acceptance of drafts. Definitions: METRICS; vLLM v1/spec_decode/metrics.py for the drafted figures."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from specdec_bench.records import AcceptanceCounters, Record, RequestRecord


class RequestAcceptance(Record, frozen=True, kw_only=True):
    """One request's counts. `None`: its source does not tell."""

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
    """Returns the counts of one finished request, from the best source in it.

    The first chunk is the prefill's and no decode step. Where every later chunk tells `num_accepted`, a chunk
    is one engine step and the counts are exact; otherwise the engine's counters are taken; with neither,
    chunks stand for steps (`acceptance_source` "stream"), which overstates the tokens of one step.
    """
    output_tokens, decode = len(record.output_token_ids), record.steps[1:]
    if all(step.num_accepted is not None and step.num_proposed is not None for step in decode):
        verified = [step for step in decode if step.num_proposed]
        return RequestAcceptance(
            output_tokens=output_tokens,
            decode_steps=len(decode),
            verify_steps=len(verified),
            proposed=sum(step.num_proposed or 0 for step in verified),
            accepted=sum(step.num_accepted or 0 for step in verified),
            truncated_steps=sum(step.num_tokens < (step.num_accepted or 0) + 1 for step in decode),
            histogram=_histogram([step.num_accepted or 0 for step in verified]),
        )
    if record.counters is not None:
        return from_counters(record.counters, output_tokens)
    if record.acceptance_source is None:  # plain decoding: one token a step, however chunks were merged
        return RequestAcceptance(output_tokens=output_tokens, decode_steps=max(output_tokens - 1, 0))
    is_stream = record.acceptance_source == "stream"
    return RequestAcceptance(output_tokens=output_tokens, decode_steps=len(decode) if is_stream else None)


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


def figures(counts: Iterable[RequestAcceptance], draft_length: int) -> dict[str, Any]:
    """Returns the pooled figures: sums over the requests, then the formulas.

    A sum over requests of which one does not tell is undefined.
    """
    requests = list(counts)
    output_tokens = sum(request.output_tokens for request in requests)
    emitted = sum(max(request.output_tokens - 1, 0) for request in requests)  # less one prefill token each
    decode_steps = _sum([request.decode_steps for request in requests])
    verify_steps = _sum([request.verify_steps for request in requests])
    proposed = _sum([request.proposed for request in requests])
    accepted = _sum([request.accepted for request in requests])
    histogram = _sum_histograms([request.histogram for request in requests], draft_length)
    joint = _joint(histogram)
    return {
        "output_tokens": output_tokens,
        "decode_steps": decode_steps,
        "verify_steps": verify_steps,
        "proposed": proposed,
        "accepted": accepted,
        "truncated_steps": _sum([request.truncated_steps for request in requests]),
        "acceptance_length": _ratio(emitted, decode_steps),
        "acceptance_length_drafted": None if accepted is None or not verify_steps else 1 + accepted / verify_steps,
        "draft_acceptance_rate": _ratio(accepted, proposed),
        "acceptance_joint": joint,
        "acceptance_conditional": _conditional(joint),
        "acceptance_histogram": histogram,
    }


def macro(
    counts: Sequence[RequestAcceptance], draft_length: int, groups: Sequence[Hashable] | None = None
) -> dict[str, Any]:
    """Returns the mean over requests of the per-request figures, over those in which a figure is defined.

    Args:
        counts: the requests.
        draft_length: K, the length of the lists.
        groups: the conversation of each request; with it, the mean over conversations of the mean over turns.
    """
    members: dict[Hashable, list[dict[str, Any]]] = defaultdict(list)
    for index, request in enumerate(counts):
        members[index if groups is None else groups[index]].append(figures([request], draft_length))
    return _mean([_mean(group) for group in members.values()])


SCALARS = ("acceptance_length", "acceptance_length_drafted", "draft_acceptance_rate")
LISTS = ("acceptance_joint", "acceptance_conditional", "acceptance_histogram")


def _mean(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    means: dict[str, Any] = {name: _mean_defined([row[name] for row in rows]) for name in SCALARS}
    for name in LISTS:
        lists = [row[name] for row in rows if row[name] is not None]
        means[name] = [_mean_defined(column) for column in zip(*lists, strict=True)] if lists else None
    return means


def _mean_defined(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def _histogram(accepted: Sequence[int]) -> tuple[int, ...]:
    counts = [0] * (max(accepted, default=-1) + 1)
    for number in accepted:
        counts[number] += 1
    return tuple(counts)


def _sum(values: Sequence[int | None]) -> int | None:
    defined = [value for value in values if value is not None]
    return sum(defined) if len(defined) == len(values) else None


def _sum_histograms(histograms: Sequence[tuple[int, ...] | None], draft_length: int) -> list[int] | None:
    """Returns the summed histogram, dense up to K; None where nothing is drafted or a request does not tell."""
    known = [histogram for histogram in histograms if histogram is not None]
    if len(known) < len(histograms) or draft_length == 0:
        return None
    total = [0] * (draft_length + 1)
    for histogram in known:
        for accepted, number in enumerate(histogram):
            total[accepted] += number
    return total


def _joint(histogram: Sequence[int] | None) -> list[float | None] | None:
    if histogram is None:
        return None
    steps = sum(histogram)
    return [sum(histogram[i:]) / steps if steps else None for i in range(1, len(histogram))]


def _conditional(joint: Sequence[float | None] | None) -> list[float | None] | None:
    if joint is None:
        return None
    before: list[float | None] = [1.0, *joint[:-1]]
    return [None if now is None or not then else now / then for now, then in zip(joint, before, strict=True)]


def _ratio(part: int | None, whole: int | None) -> float | None:
    return None if part is None or not whole else part / whole
