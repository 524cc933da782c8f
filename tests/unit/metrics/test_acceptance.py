"""Acceptance by hand, by the traps that other tools fall into, and by an independent recomputation."""

import msgspec
import pytest

from specdec_bench.metrics.acceptance import request_acceptance
from specdec_bench.records.request import RequestRecord
from tests.helpers.step_counts import macro, pool, pooled, request


def test_one_request_by_hand() -> None:
    """Prefill, then 3 of 3, 1 of 3, 0 of 3 and 1 of 2 accepted: 9 tokens in 4 decode steps."""
    found = pooled(request((4, 3, 3), (2, 3, 1), (1, 3, 0), (2, 2, 1)))
    assert found == {
        "output_tokens": 10,
        "decode_steps": 4,
        "verify_steps": 4,
        "proposed": 11,
        "accepted": 5,
        "truncated_steps": 0,
        "acceptance_length": 9 / 4,
        "acceptance_length_drafted": 1 + 5 / 4,
        "draft_acceptance_rate": 5 / 11,
        "acceptance_joint": [3 / 4, 1 / 4, 1 / 4],
        "acceptance_conditional": [3 / 4, 1 / 3, 1.0],
        "acceptance_histogram": [1, 2, 0, 1],
    }


def test_the_prefill_is_no_step() -> None:
    """With the prefill as a step a true 4.0 over 10 steps reads 41 / 11 = 3.73."""
    found = pooled(request(*[(4, 3, 3)] * 10))
    assert found["acceptance_length"] == 4.0
    assert found["decode_steps"] == 10
    assert found["acceptance_joint"] == [1.0, 1.0, 1.0], "the prefill accepted nothing and must not deflate this"


def test_positions_that_no_step_reached_are_there() -> None:
    """Steps that accepted 0 and 2 but none that accepted 1 or 3."""
    found = pooled(request((1, 3, 0), (3, 3, 2), (3, 3, 2)), k=4)
    assert found["acceptance_histogram"] == [1, 0, 2, 0, 0]
    assert found["acceptance_joint"] == [2 / 3, 2 / 3, 0.0, 0.0]
    # After position 2 nothing was accepted: position 3 failed every time (0), position 4 was never tried (null).
    assert found["acceptance_conditional"] == [2 / 3, 1.0, 0.0, None]


def test_position_one_is_measured_not_assumed() -> None:
    assert pooled(request((1, 3, 0), (2, 3, 1)))["acceptance_conditional"][0] == 1 / 2


def test_the_sum_of_joint_is_the_drafted_length() -> None:
    found = pooled(request((4, 3, 3), (2, 3, 1), (1, 3, 0), (3, 3, 2), (1, 0, 0)))
    assert 1 + sum(found["acceptance_joint"]) == found["acceptance_length_drafted"] == 2.5


def test_a_step_without_a_proposal_is_a_decode_step_and_no_verify_step() -> None:
    """An n-gram drafter that proposed twice in four steps: 7 tokens in 4 steps, 3 accepted in 2."""
    found = pooled(request((1, 0, 0), (3, 3, 2), (1, 0, 0), (2, 3, 1)))
    assert (found["decode_steps"], found["verify_steps"]) == (4, 2)
    assert found["acceptance_length"] == 7 / 4
    assert found["acceptance_length_drafted"] == 1 + 3 / 2
    assert found["acceptance_histogram"] == [0, 1, 1, 0]


def test_a_cut_step_counts_what_was_accepted_and_what_was_emitted() -> None:
    """3 of 3 accepted, but the limit left room for 2 tokens only."""
    found = pooled(request((4, 3, 3), (2, 3, 3)))
    assert found["truncated_steps"] == 1
    assert found["acceptance_length"] == 6 / 2
    assert found["acceptance_length_drafted"] == 4.0
    assert found["acceptance_histogram"] == [0, 0, 0, 2]


def test_an_accepted_end_of_sequence_has_no_bonus() -> None:
    """Both drafts kept, the second of them the stop token: 2 tokens where a full step has 3."""
    found = pooled(request((2, 2, 2)))
    assert found["truncated_steps"] == 1
    assert found["draft_acceptance_rate"] == 1.0
    assert found["acceptance_length_drafted"] == 3.0


def test_pooled_weighs_by_step_macro_by_request_and_by_conversation() -> None:
    """Lengths 4 (1 step) and 2 (2 steps) in one conversation, 1 (3 steps) in another."""
    records = [request((4, 3, 3)), request((2, 3, 1), (2, 3, 1)), request((1, 3, 0), (1, 3, 0), (1, 3, 0))]
    counts = [request_acceptance(record) for record in records]
    assert pool(counts, 3)["acceptance_length"] == (4 + 4 + 3) / 6
    assert macro(counts, 3)["acceptance_length"] == (4 + 2 + 1) / 3
    assert macro(counts, 3, ["a", "a", "b"])["acceptance_length"] == ((4 + 2) / 2 + 1) / 2
    assert pool(counts, 3)["acceptance_joint"] == [3 / 6, 1 / 6, 1 / 6]
    assert macro(counts, 3)["acceptance_joint"] == [2 / 3, 1 / 3, 1 / 3]
    assert macro(counts, 3, ["a", "a", "b"])["acceptance_joint"] == [1 / 2, 1 / 4, 1 / 4]


def test_macro_leaves_out_requests_in_which_a_figure_is_undefined() -> None:
    """The second request never got to position 2, so position 3 is conditioned on the first alone."""
    counts = [request_acceptance(request((4, 3, 3), (3, 3, 2))), request_acceptance(request((1, 3, 0)))]
    assert macro(counts, 3)["acceptance_conditional"] == [1 / 2, 1.0, 1 / 2]
    single_token = request_acceptance(request())
    assert macro([*counts, single_token], 3)["acceptance_length"] == (7 / 2 + 1) / 2


def test_nothing_drafted_is_null_and_not_zero() -> None:
    found = pooled(request((1, 0, 0), (1, 0, 0)))
    assert found["acceptance_length"] == 1.0
    assert found["acceptance_length_drafted"] is None
    assert found["draft_acceptance_rate"] is None
    assert found["acceptance_joint"] == [None, None, None]
    assert found["acceptance_conditional"] == [None, None, None]
    assert found["acceptance_histogram"] == [0, 0, 0, 0], "a count of none is a count"


def test_drafts_that_all_failed_are_zero_and_not_null() -> None:
    found = pooled(request((1, 3, 0), (1, 3, 0)))
    assert found["acceptance_length_drafted"] == 1.0
    assert found["draft_acceptance_rate"] == 0.0
    assert found["acceptance_joint"] == [0.0, 0.0, 0.0]
    assert found["acceptance_conditional"] == [0.0, None, None]


@pytest.mark.parametrize(
    "record",
    [request(), msgspec.structs.replace(request(), steps=(), output_token_ids=())],
    ids=["one token", "no token"],
)
def test_a_request_that_ends_in_the_prefill_divides_nothing_by_zero(record: RequestRecord) -> None:
    """An immediate end of sequence must not crash the metrics."""
    found = pooled(record)
    assert (found["decode_steps"], found["acceptance_length"]) == (0, None)
    assert pooled(record, request((2, 3, 1)))["acceptance_length"] == 2.0


def test_no_request_at_all_is_null() -> None:
    for found in (pool([], 3), macro([], 3), macro([], 3, [])):
        assert {name: value for name, value in found.items() if name.startswith(("acceptance_l", "draft"))} == {
            "acceptance_length": None,
            "acceptance_length_drafted": None,
            "draft_acceptance_rate": None,
        }
