"""Rebuilds a request's engine steps from the events of its stream and the server's counts.

A server whose event loop is late joins several engine steps in one event. The counts tell which events are one step
each. Let d steps after the prefill emit n - 1 tokens. A step that accepts a drafts emits a + 1 tokens, and the last
one may be cut. So d events of sizes s satisfy sum(s - 1) = sum(a) - cut, and with m steps joined to their neighbours
sum(s - 1) = sum(a) - cut + m.
"""

from collections.abc import Sequence
from typing import NamedTuple

from specdec_bench.records.request import AcceptanceCounters, FinishReason, RequestMade, StepBatch


class Counts(NamedTuple):
    """What a server reports of a finished request's drafts."""

    counters: AcceptanceCounters
    always_drafts: bool = False
    """Every step after the prefill verifies drafts."""
    proposed_per_step: int | None = None
    """Drafts in every verify step, if the method always proposes as many."""


class Steps(NamedTuple):
    """The drafts of each event: None in one that may hold several engine steps."""

    proposed: list[int | None]
    accepted: list[int | None]
    num_decode_steps: int | None
    """Engine steps after the prefill; None if they cannot be told."""


class EventLog:
    """The tokens, sizes and arrival times of one request's events."""

    __slots__ = ("num_passed_on", "sizes", "times_ns", "token_ids")

    def __init__(self) -> None:
        self.token_ids: list[int] = []
        self.sizes: list[int] = []
        self.times_ns: list[int] = []
        self.num_passed_on = 0
        """Events already taken by `new`."""

    def note(self, token_ids: Sequence[int], now_ns: int) -> None:
        """Adds an event with these tokens."""
        self.token_ids += token_ids
        self.sizes.append(len(token_ids))
        self.times_ns.append(now_ns)

    def new(self) -> StepBatch:
        """Returns the events since the last call. What their steps accepted is not known yet."""
        first, self.num_passed_on = self.num_passed_on, len(self.sizes)
        sizes = self.sizes[first:]
        unknown: list[int | None] = [None] * len(sizes)
        token_ids = self.token_ids[len(self.token_ids) - sum(sizes) :]
        return StepBatch(token_ids, sizes, self.times_ns[first:], unknown, list(unknown), are_exact=False)

    def whole(
        self,
        steps: Steps,
        finish_reason: FinishReason,
        counters: AcceptanceCounters | None,
        made: RequestMade,
        *,
        are_single: bool = False,
    ) -> StepBatch:
        """Returns all of the request's events, with what is known of their steps.

        Args:
            steps: of the events.
            finish_reason: of the request.
            counters: of the request.
            made: of the request.
            are_single: each event is one engine step, even where its drafts are unknown.
        """
        return StepBatch(
            self.token_ids,
            self.sizes,
            self.times_ns,
            steps.proposed,
            steps.accepted,
            finish_reason,
            counters,
            made,
            is_whole=True,
            are_exact=are_single or None not in steps.accepted,
        )


def plain_steps(sizes: Sequence[int]) -> Steps:
    """Returns the steps of plain decoding, which emits one token a step: an event of several tokens joins steps."""
    counts: list[int | None] = [0 if size == 1 else None for size in sizes]
    return Steps(counts, list(counts), max(sum(sizes) - 1, 0))


def unknown_steps(sizes: Sequence[int]) -> Steps:
    """Returns the steps of a request without counts."""
    unknown: list[int | None] = [None] * len(sizes)
    return Steps(unknown, list(unknown), None)


def rebuild(sizes: Sequence[int], counts: Counts) -> Steps:
    """Returns the steps of a request whose counts the server reports. The first event is the prefill's.

    Args:
        sizes: the tokens of each event.
        counts: with the drafts that each verify step accepted, or with their histogram.
    """
    counters, decode = counts.counters, list(sizes[1:])
    if counters.num_accepted is None or (counters.per_step_accepted is None and counters.histogram is None):
        return unknown_steps(sizes)
    is_one_each = not sizes or (sizes[0] == 1 and _is_one_step_each(decode, counts))
    if not is_one_each:
        steps = unknown_steps(sizes)
        # Where every step drafts, the counts alone tell the number of steps.
        num_steps = counters.num_verify_steps if counts.always_drafts else None
        return steps._replace(num_decode_steps=num_steps)
    accepted: list[int | None] = [0, *(size - 1 for size in decode)]
    if decode:  # the last step may have been cut; its drafts are the rest of the request's
        accepted[-1] = counters.num_accepted - sum(size - 1 for size in decode[:-1])
    drafted: Sequence[int | None] = [counts.proposed_per_step] * len(decode)
    if counters.per_step_proposed is not None and len(counters.per_step_proposed) == len(decode):
        drafted = counters.per_step_proposed
    proposed: list[int | None] = [0, *drafted]
    return Steps(proposed, accepted, len(decode))


def _is_one_step_each(decode: Sequence[int], counts: Counts) -> bool:
    """Whether the sizes of the events after the prefill's are those of single steps."""
    counters = counts.counters
    num_verify_steps, num_accepted = counters.num_verify_steps or 0, counters.num_accepted or 0
    if len(decode) < num_verify_steps or (counts.always_drafts and len(decode) != num_verify_steps):
        return False
    if not decode:
        return num_verify_steps == 0
    before, last = decode[:-1], decode[-1]
    rest = num_accepted - sum(size - 1 for size in before)
    if not 0 <= last - 1 <= rest:
        return False
    if counters.per_step_accepted is not None:
        # A step without drafts emits one token, as one that accepted nothing does: only the others show.
        emitted = [size - 1 for size in before if size > 1]
        accepting = [number for number in counters.per_step_accepted if number]
        return accepting in (emitted, [*emitted, rest])
    histogram = list(counters.histogram or ())
    for number in [*(size - 1 for size in before), rest]:
        if number >= len(histogram):
            return False
        histogram[number] -= 1
    # Steps without drafts emit as much as those that accepted nothing, and are in no histogram.
    return not any(histogram[1:]) and (histogram[0] == 0 if counts.always_drafts else histogram[0] <= 0)
