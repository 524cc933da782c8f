"""Verdicts by hand: 2.00 expected with 5% tolerance accepts 1.90 to 2.10."""

from typing import Any

import pytest
from msgspec.structs import replace

from specdec_bench.compare.published import compare_with_published
from specdec_bench.errors import NotComparableError
from specdec_bench.metrics.summary import summarize
from specdec_bench.records.summary import Summary
from specdec_bench.report.check_table import verdict_line
from tests.helpers.made_runs import manifest

EXPECTED: dict[str, Any] = {
    "acceptance_length_drafted": 2.0,
    "acceptance_joint": [0.6, 0.4],
    "num_requests": 80,
    "relative_tolerance": 0.05,
    "source": "",
}


def config(expected: dict[str, Any] | None = EXPECTED, **spec: Any) -> dict[str, Any]:
    return {"expected": expected, "spec": {"name": "eagle3", "draft_length": 2} | spec}


def summary(length: float | None, joint: list[float] | None, **changes: Any) -> Summary:
    made = summarize([], manifest())
    counts = {name: changes.pop(name) for name in ("output_tokens", "verify_steps") if name in changes}
    pooled = replace(made.acceptance.pooled, acceptance_length_drafted=length, acceptance_joint=joint, **counts)
    requests = {"finished": 80, "failed": 0, "skipped": 0} | changes.pop("requests", {})
    return replace(
        made,
        requests=replace(made.requests, **requests),
        acceptance=replace(made.acceptance, pooled=pooled),
        **changes,
    )


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
    assert [verdict.passed for verdict in compare_with_published(summary(length, joint), config())] == passed


def test_the_deviation_is_relative_to_what_was_expected() -> None:
    (verdict, *_) = compare_with_published(summary(2.12, [0.6, 0.4]), config())
    assert verdict.deviation == pytest.approx(0.06)


def test_positions_may_have_a_tolerance_of_their_own() -> None:
    """A position with 15% accepts 0.34 and more where 0.40 is expected; the length keeps its 5%."""
    expected = config(EXPECTED | {"joint_tolerance": 0.15})
    assert [verdict.passed for verdict in compare_with_published(summary(2.12, [0.6, 0.345]), expected)] == [
        False,
        True,
        True,
    ]
    assert not compare_with_published(summary(2.0, [0.6, 0.335]), expected)[2].passed
    good = compare_with_published(summary(2.0, [0.6, 0.345]), expected)
    assert verdict_line(good) == "pass: 3 of 3 values within 5% and 15%"


@pytest.mark.parametrize(
    ("output_tokens", "verify_steps", "passed"),
    [
        (290, 100, True),  # 2.90 of 2.90
        (276, 100, True),  # -4.8%
        (275, 100, False),  # -5.2%
        (305, 100, False),  # +5.2%
        (0, 0, False),
        (290, None, False),
    ],
)
def test_sglang_s_length_counts_the_tokens_of_the_prefills(
    output_tokens: int, verify_steps: int | None, passed: bool
) -> None:
    """100 verify steps and 290 output tokens, 10 of them of prefills: 2.90 by SGLang's definition, not 2.80."""
    expected: dict[str, Any] = {"output_tokens_per_verify_step": 2.9, "relative_tolerance": 0.05}
    made = summary(2.8, [0.9, 0.9], output_tokens=output_tokens, verify_steps=verify_steps)
    (verdict,) = compare_with_published(made, config(expected))
    assert (verdict.metric, verdict.passed) == ("output_tokens_per_verify_step", passed)
    assert verdict.measured == (output_tokens / verify_steps if verify_steps else None)


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
    with pytest.raises(NotComparableError, match=words):
        compare_with_published(summary(2.0, [0.6, 0.4], **changes), config())


@pytest.mark.parametrize("expected", [None, {}, EXPECTED | {"acceptance_length_drafted": None, "acceptance_joint": []}])
def test_a_run_without_expected_values(expected: dict[str, Any] | None) -> None:
    with pytest.raises(NotComparableError, match="no expected values"):
        compare_with_published(summary(2.0, [0.6, 0.4]), config(expected))


def test_a_plain_run_is_not_compared() -> None:
    with pytest.raises(NotComparableError, match=r"spec=none drafts nothing; .* of its speculative runs"):
        compare_with_published(summary(None, None), {"expected": EXPECTED, "spec": {"name": "none"}})


def test_a_run_of_another_method_is_not_compared() -> None:
    expected = {"acceptance_length_drafted": 2.0, "spec": "eagle3"}
    assert [verdict.passed for verdict in compare_with_published(summary(2.0, None), config(expected))] == [True]
    with pytest.raises(NotComparableError, match=r"the run's spec is dflash and its expected values are of eagle3"):
        compare_with_published(summary(2.0, None), config(expected, name="dflash"))


def test_a_run_of_another_draft_length_is_not_compared() -> None:
    words = (
        r"expected\.acceptance_joint has 2 values, one for each draft position, and the run's spec\.draft_length is 3"
    )
    with pytest.raises(NotComparableError, match=words):
        compare_with_published(summary(2.0, [0.6, 0.4, 0.2]), config(draft_length=3))
    with pytest.raises(NotComparableError, match=r"spec\.draft_length is 3 and its expected values are of 2"):
        compare_with_published(
            summary(2.0, None), config({"acceptance_length_drafted": 2.0, "draft_length": 2}, draft_length=3)
        )
    only_length = EXPECTED | {"acceptance_joint": []}
    assert len(compare_with_published(summary(2.0, [0.6, 0.4, 0.2]), config(only_length, draft_length=3))) == 1


def test_a_run_whose_draft_length_followed_the_batch_is_not_compared() -> None:
    following = config() | {
        "spec": {"name": "eagle3", "draft_length": 2, "draft_length_by_batch_size": [[1, 1, 2], [2, 9, 1]]}
    }
    with pytest.raises(NotComparableError, match="followed the batch size"):
        compare_with_published(summary(2.0, [0.6, 0.4]), following)


def test_the_verdict_in_one_line() -> None:
    good = compare_with_published(summary(2.09, [0.6, 0.4]), config())
    assert verdict_line(good) == "pass: 3 of 3 values within 5%"
    bad = compare_with_published(summary(2.12, [0.6, 0.37]), config())
    assert verdict_line(bad) == "OFF: acceptance_length_drafted +6.0%, acceptance_joint[2] -7.5%"
    missing = compare_with_published(summary(None, None), config())
    assert verdict_line(missing).startswith("OFF: acceptance_length_drafted undefined, ")
