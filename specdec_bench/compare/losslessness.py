"""Whether a method changed the output, at temperature 0."""

from collections.abc import Iterable, Mapping

import numpy as np
from msgspec import UNSET, UnsetType

from specdec_bench.records.first_difference import first_difference
from specdec_bench.records.request import Record, RequestRecord

NUM_EXAMPLES = 10
CONTEXT_TOKENS = 8
"""Tokens shown on either side of a divergence."""
SIGNIFICANCE = 0.05

Outputs = Mapping[tuple[str, int, int], tuple[tuple[int, ...], tuple[int, ...]]]
"""Prompt and output token ids, by prompt, turn and repeat."""


class Divergence(Record, frozen=True, kw_only=True):
    """Where two outputs diverge."""

    prompt_id: str
    turn: int
    repeat: int
    position: int
    """In the output."""
    baseline_token: int | None
    """None if the baseline's output ended there."""
    token: int | None
    baseline_around: tuple[int, ...]
    """`CONTEXT_TOKENS` on either side."""
    around: tuple[int, ...]
    baseline_text: str | UnsetType | None = UNSET
    """Text around the divergence, if it was read."""
    text: str | UnsetType | None = UNSET


class Sameness(Record, frozen=True, kw_only=True):
    """How many outputs have the same tokens."""

    num_compared: int
    num_identical: int
    share_identical: float | None
    num_prompts_differ: int
    """Turns whose prompts differ, because an earlier reply did; they are not compared."""
    divergences: tuple[Divergence, ...] = ()
    """The first few."""


def outputs(records: Iterable[RequestRecord]) -> Outputs:
    """Returns the tokens of a run's finished requests."""
    return {
        (record.prompt_id, record.turn, record.repeat): (record.prompt_token_ids, record.output_token_ids)
        for record in records
        if record.phase == "measure" and record.error is None
    }


def compare(baseline: Outputs, other: Outputs) -> Sameness:
    """Returns how many outputs have the same tokens, and where the first few others diverge."""
    common = sorted(baseline.keys() & other.keys())
    comparable = [key for key in common if baseline[key][0] == other[key][0]]
    different = [key for key in comparable if baseline[key][1] != other[key][1]]
    num_identical = len(comparable) - len(different)
    return Sameness(
        num_compared=len(comparable),
        num_identical=num_identical,
        share_identical=num_identical / len(comparable) if comparable else None,
        num_prompts_differ=len(common) - len(comparable),
        divergences=tuple(_divergence(key, baseline[key][1], other[key][1]) for key in different[:NUM_EXAMPLES]),
    )


def first_differences(baseline: Outputs, other: Outputs) -> list[int]:
    """Returns the first position at which each pair of outputs of the same prompt differs, of those that do."""
    positions = (
        first_difference(baseline[key][1], other[key][1])
        for key in baseline.keys() & other.keys()
        if baseline[key][0] == other[key][0]
    )
    return [position for position in positions if position is not None]


def verdict(measured: Sameness, control: Sameness | None) -> str:
    """Returns the conclusion that the shares of identical outputs support.

    - `identical`: all outputs are identical.
    - `as control`: some differ, not significantly more than in two plain runs (Fisher's exact test, one-sided, 5%).
    - `fewer than control`: floating-point noise does not explain the differences.
    - `no control`: some differ, and the noise is unknown.
    - `nothing compared`.
    """
    compared, identical = measured.num_compared, measured.num_identical
    if not compared:
        return "nothing compared"
    if identical == compared:
        return "identical"
    if control is None or not control.num_compared:
        return "no control"
    table = np.array(
        [
            [identical, compared - identical],
            [control.num_identical, control.num_compared - control.num_identical],
        ]
    )
    from scipy import stats  # takes a second, and most runs have no control

    # Unpaired: both runs have the same prompts, so this may miss a difference that a paired test would find.
    probability = stats.fisher_exact(table, alternative="less").pvalue
    return "fewer than control" if probability < SIGNIFICANCE else "as control"


def _divergence(key: tuple[str, int, int], baseline: tuple[int, ...], other: tuple[int, ...]) -> Divergence:
    position = first_difference(baseline, other)
    assert position is not None
    around = slice(max(position - CONTEXT_TOKENS, 0), position + CONTEXT_TOKENS + 1)
    return Divergence(
        prompt_id=key[0],
        turn=key[1],
        repeat=key[2],
        position=position,
        baseline_token=baseline[position] if position < len(baseline) else None,
        token=other[position] if position < len(other) else None,
        baseline_around=baseline[around],
        around=other[around],
    )
