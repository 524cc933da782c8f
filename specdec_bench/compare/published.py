"""Compares a finished run with the values published for it."""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from specdec_bench.errors import NotComparableError
from specdec_bench.records.json_types import Json
from specdec_bench.records.labels import draft_lengths_of, method_of
from specdec_bench.records.request import Record
from specdec_bench.records.summary import PooledAcceptance, Summary


class Expected(Record, frozen=True, kw_only=True):
    """The values that a run is known to give elsewhere: an archived experiment's `expected`."""

    acceptance_length_drafted: float | None = None
    output_tokens_per_verify_step: float | None = None
    acceptance_joint: tuple[float, ...] = ()
    spec: str | None = None
    draft_length: int | None = None
    num_requests: int | None = None
    relative_tolerance: float = 0.0
    joint_tolerance: float | None = None
    """Of acceptance_joint; None takes relative_tolerance."""
    source: str = ""
    """Where the values were published."""


class Verdict(NamedTuple):
    """One metric compared with its expected value."""

    metric: str
    expected: float
    measured: float | None
    deviation: float | None
    """(measured - expected) / expected."""
    tolerance: float
    """How large the deviation may be."""
    passed: bool


def expects(config: Mapping[str, Json]) -> bool:
    """Whether an archived experiment has values that its run is known to give elsewhere."""
    expected = expected_of(config)
    lengths = (expected.acceptance_length_drafted, expected.output_tokens_per_verify_step)
    return any(length is not None for length in lengths) or bool(expected.acceptance_joint)


def expected_of(config: Mapping[str, Json]) -> Expected:
    """Returns the values that an archived experiment expects."""
    return msgspec.convert(config.get("expected") or {}, Expected)


def compare_with_published(summary: Summary, config: Mapping[str, Json]) -> list[Verdict]:
    """Returns a verdict for each expected value.

    The tolerance limits deviations of a length in both directions, those of a position's acceptance only downwards.
    vLLM's own test of its published values judges them the same way.

    Args:
        summary: of the run.
        config: its archived experiment.

    Raises:
        NotComparableError: the run has no expected values, or cannot be compared with them.
    """
    if not expects(config):
        raise NotComparableError(
            "the run has no expected values; run one of conf/experiment, or set expected.* beforehand"
        )
    expected, (spec, draft_length) = expected_of(config), method_of(config)
    if draft_length is None:
        raise NotComparableError(f"spec={spec} drafts nothing; the expected values are of its speculative runs")
    if expected.spec not in (None, spec):
        raise NotComparableError(f"the run's spec is {spec} and its expected values are of {expected.spec}")
    if expected.draft_length not in (None, draft_length):
        raise NotComparableError(
            f"the run's spec.draft_length is {draft_length} and its expected values are of {expected.draft_length}"
        )
    if draft_lengths_of(config) is not None:
        raise NotComparableError(
            "the run's draft length followed the batch size (spec.draft_length_by_batch_size); the expected values are "
            "of one draft length"
        )
    if (num_values := len(expected.acceptance_joint)) not in (0, draft_length):
        raise NotComparableError(
            f"expected.acceptance_joint has {num_values} values, one for each draft position, and the run's "
            f"spec.draft_length is {draft_length}"
        )
    if summary.partial:
        raise NotComparableError(f"the run's status is {summary.status}; only a finished run can be checked")
    if summary.synthetic:
        raise NotComparableError(f"the run is not of a real model ({summary.synthetic}); nothing can be checked by it")
    if failed := summary.requests.failed + summary.requests.skipped:
        raise NotComparableError(
            f"{failed} requests of the run failed or were skipped; only a complete run can be checked"
        )
    finished, wanted = summary.requests.finished, expected.num_requests
    if wanted not in (None, finished):
        raise NotComparableError(
            f"the run has {finished} requests and its expected values are of {wanted}; run all of them"
        )
    tolerance = expected.relative_tolerance
    pooled = summary.acceptance.pooled
    lengths = (
        ("acceptance_length_drafted", expected.acceptance_length_drafted, pooled.acceptance_length_drafted),
        ("output_tokens_per_verify_step", expected.output_tokens_per_verify_step, _tokens_per_verify_step(pooled)),
    )
    verdicts = []
    for metric, length, measured in lengths:
        if length is not None:
            deviation = _deviation(measured, length)
            passed = deviation is not None and abs(deviation) <= tolerance
            verdicts.append(Verdict(metric, length, measured, deviation, tolerance, passed))
    if expected.joint_tolerance is not None:
        tolerance = expected.joint_tolerance
    joint = pooled.acceptance_joint or []
    for position, rate in enumerate(expected.acceptance_joint):
        measured = joint[position] if position < len(joint) else None
        deviation = _deviation(measured, rate)
        passed = deviation is not None and deviation >= -tolerance
        verdicts.append(Verdict(f"acceptance_joint[{position + 1}]", rate, measured, deviation, tolerance, passed))
    return verdicts


def _tokens_per_verify_step(pooled: PooledAcceptance) -> float | None:
    """Returns the length as SGLang defines it, from this project's counts: no approximation."""
    return pooled.output_tokens / pooled.verify_steps if pooled.verify_steps else None


def _deviation(measured: float | None, expected: float) -> float | None:
    return None if measured is None else (measured - expected) / expected
