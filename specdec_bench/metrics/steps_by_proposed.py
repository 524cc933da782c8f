"""Acceptance by the number of drafts of a verify step, for runs whose draft length follows the batch.

Rates over all verify steps would mix draft lengths there: a step that proposed one draft cannot accept a second.
"""

from collections import Counter
from typing import TypeVar

import msgspec

from specdec_bench.metrics.acceptance import conditional_rates, joint_rates
from specdec_bench.records.request import RequestRecord
from specdec_bench.records.summary import Acceptance, CategoryAcceptance, StepAcceptance

Block = TypeVar("Block", Acceptance, CategoryAcceptance)


class StepsByProposed:
    """Counts verify steps by what they proposed and accepted."""

    def __init__(self) -> None:
        self._steps: Counter[tuple[int, int]] | None = Counter()
        """By (proposed, accepted); None once a request does not report the drafts of each step."""

    def add(self, record: RequestRecord) -> None:
        """Adds the verify steps of a finished request."""
        found = _verify_steps(record)
        if self._steps is None or found is None:
            self._steps = None
        else:
            self._steps.update(found)

    def result(self) -> dict[str, StepAcceptance] | None:
        """Returns the acceptance of the steps that proposed k drafts, by k; None if it is unknown."""
        if self._steps is None:
            return None
        lengths = sorted({proposed for proposed, _ in self._steps})
        return {
            str(length): _step_acceptance([self._steps[length, accepted] for accepted in range(length + 1)])
            for length in lengths
        }


def _verify_steps(record: RequestRecord) -> list[tuple[int, int]] | None:
    """Returns the drafts that each verify step proposed and accepted; None if they are not reported."""
    first = record.steps[0] if record.steps else None
    # A longer first chunk may hold verify steps besides the prefill.
    if first is None or first.num_accepted is not None or first.num_tokens == 1:
        pairs = [(step.num_proposed, step.num_accepted) for step in record.steps[1:]]
        known = [(proposed, accepted) for proposed, accepted in pairs if proposed is not None and accepted is not None]
        if len(known) == len(pairs):
            return [(proposed, accepted) for proposed, accepted in known if proposed > 0]
    counters = record.counters
    if counters is None or counters.per_step_proposed is None or counters.per_step_accepted is None:
        return None
    if len(counters.per_step_proposed) != len(counters.per_step_accepted):
        return None
    return list(zip(counters.per_step_proposed, counters.per_step_accepted, strict=True))


def _step_acceptance(histogram: list[int]) -> StepAcceptance:
    steps, accepted = sum(histogram), sum(number * count for number, count in enumerate(histogram))
    joint = joint_rates(histogram)
    return StepAcceptance(
        verify_steps=steps,
        accepted=accepted,
        acceptance_length_drafted=1 + accepted / steps,
        acceptance_joint=joint,
        acceptance_conditional=conditional_rates(joint),
        acceptance_histogram=histogram,
    )


def without_rates(acceptance: Acceptance) -> Acceptance:
    """Returns acceptance without the rates by position, which assume that all steps propose as many drafts."""
    by_category = {name: _without_rates(block) for name, block in acceptance.by_category.items()}
    return msgspec.structs.replace(_without_rates(acceptance), by_category=by_category)


def _without_rates(block: Block) -> Block:
    rates = {"acceptance_joint": None, "acceptance_conditional": None}
    return msgspec.structs.replace(
        block,
        pooled=msgspec.structs.replace(block.pooled, **rates),
        macro=msgspec.structs.replace(block.macro, **rates),
        macro_by_conversation=msgspec.structs.replace(block.macro_by_conversation, **rates),
    )
