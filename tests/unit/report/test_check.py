"""Verdicts by hand: 2.00 expected with 5% tolerance accepts 1.90 to 2.10."""

from typing import Any

import pytest

from specdec_bench.errors import ArchiveError
from specdec_bench.report.check import check

EXPECTED: dict[str, Any] = {
    "acceptance_length_drafted": 2.0,
    "acceptance_joint": [0.6, 0.4],
    "num_requests": 80,
    "relative_tolerance": 0.05,
    "source": "",
}


def summary(length: float | None, joint: list[float] | None, **changes: Any) -> dict[str, Any]:
    return {
        "status": "finished",
        "partial": False,
        "synthetic": None,
        "requests": {"finished": 80, "failed": 0, "skipped": 0},
        "acceptance": {"pooled": {"acceptance_length_drafted": length, "acceptance_joint": joint}},
    } | changes


@pytest.mark.parametrize(
    ("length", "joint", "passed"),
    [
        (2.0, [0.6, 0.4], [True, True, True]),
        (2.09, [0.6, 0.4], [True, True, True]),
        (2.12, [0.6, 0.4], [False, True, True]),
        (1.88, [0.6, 0.4], [False, True, True]),
        # A position may accept more than expected, but not less.
        (2.0, [0.9, 0.37], [True, True, False]),
        (2.0, [0.6], [True, True, False]),
        (None, None, [False, False, False]),
    ],
)
def test_verdicts(length: float | None, joint: list[float] | None, passed: list[bool]) -> None:
    assert [verdict.passed for verdict in check(summary(length, joint), EXPECTED)] == passed


def test_the_deviation_is_relative_to_what_was_expected() -> None:
    (verdict, *_) = check(summary(2.12, [0.6, 0.4]), EXPECTED)
    assert verdict.deviation == pytest.approx(0.06)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"requests": {"finished": 79, "failed": 0, "skipped": 0}}, "has 79 requests .* of 80"),
        ({"partial": True, "status": "failed"}, "status is failed"),
        ({"synthetic": "no model"}, "not of a real model"),
        ({"requests": {"finished": 77, "failed": 1, "skipped": 2}}, "3 requests of the run failed or were skipped"),
    ],
)
def test_what_cannot_be_checked(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ArchiveError, match=words):
        check(summary(2.0, [0.6, 0.4], **changes), EXPECTED)


@pytest.mark.parametrize("expected", [None, {}, EXPECTED | {"acceptance_length_drafted": None, "acceptance_joint": []}])
def test_a_run_without_expected_values(expected: dict[str, Any] | None) -> None:
    with pytest.raises(ArchiveError, match="no expected values"):
        check(summary(2.0, [0.6, 0.4]), expected)
