"""A finished run against what was published for it."""

from typing import Any, NamedTuple

from rich import box
from rich.table import Table

from specdec_bench.errors import ArchiveError
from specdec_bench.records import Summary


class Verdict(NamedTuple):
    """One figure beside its expected value."""

    figure: str
    expected: float
    measured: float | None
    deviation: float | None
    """(measured - expected) / expected."""
    passed: bool


def check(summary: Summary, expected: dict[str, Any] | None) -> list[Verdict]:
    """Returns a verdict for each expected figure.

    The acceptance length may deviate by the tolerance either way, the acceptance of a position only downwards:
    so vLLM's own test of its published figures judges them.

    Raises:
        ArchiveError: the run has no expected values, or is none that they can be held against.
    """
    if not expected or (expected["acceptance_length_drafted"] is None and not expected["acceptance_joint"]):
        raise ArchiveError("the run has no expected values; run one of conf/experiment, or set expected.* beforehand")
    if summary["partial"]:
        raise ArchiveError(f"the run's status is {summary['status']}; only a finished run can be checked")
    if summary["synthetic"]:
        raise ArchiveError(f"the run is not of a real model ({summary['synthetic']}); nothing can be checked by it")
    if failed := summary["requests"]["failed"] + summary["requests"]["skipped"]:
        raise ArchiveError(f"{failed} requests of the run failed or were skipped; only a complete run can be checked")
    finished, wanted = summary["requests"]["finished"], expected.get("num_requests")
    if wanted not in (None, finished):
        raise ArchiveError(f"the run has {finished} requests and its expected values are of {wanted}; run all of them")
    tolerance = expected["relative_tolerance"]
    pooled = summary["acceptance"]["pooled"]
    verdicts = []
    if (length := expected["acceptance_length_drafted"]) is not None:
        measured = pooled["acceptance_length_drafted"]
        deviation = None if measured is None else (measured - length) / length
        passed = deviation is not None and abs(deviation) <= tolerance
        verdicts.append(Verdict("acceptance_length_drafted", length, measured, deviation, passed))
    joint = pooled["acceptance_joint"] or []
    for position, rate in enumerate(expected["acceptance_joint"]):
        measured = joint[position] if position < len(joint) else None
        deviation = None if measured is None else (measured - rate) / rate
        passed = deviation is not None and deviation >= -tolerance
        verdicts.append(Verdict(f"acceptance_joint[{position + 1}]", rate, measured, deviation, passed))
    return verdicts


def verdict_table(verdicts: list[Verdict], tolerance: float, source: str) -> Table:
    """Returns the verdicts as a person reads them."""
    table = Table(box=box.SIMPLE_HEAD, title=f"against the expected values (tolerance {tolerance:.0%})", caption=source)
    table.add_column("figure")
    for header in ("expected", "measured", "off by", "verdict"):
        table.add_column(header, justify="right", no_wrap=True)
    for figure, expected, measured, deviation, passed in verdicts:
        table.add_row(
            figure,
            f"{expected:.4f}",
            "–" if measured is None else f"{measured:.4f}",
            "–" if deviation is None else f"{deviation:+.1%}",
            "pass" if passed else "OFF",
        )
    return table
