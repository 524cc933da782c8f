"""Acceptance where the draft length follows the batch size, by hand."""

from typing import Any

import pytest
from msgspec import UNSET

from specdec_bench.metrics.checkpoint_warnings import DraftReach
from specdec_bench.metrics.summary import summarize
from specdec_bench.records.labels import run_labels
from specdec_bench.records.request import AcceptanceCounters, RequestRecord
from specdec_bench.records.summary import Acceptance
from tests.helpers.made_runs import manifest
from tests.helpers.step_counts import request
from tests.helpers.trees import as_tree

ROWS = [[1, 1, 3], [2, 2, 1], [3, 8, 0]]
FOLLOWING = {"config": {"spec": {"name": "ngram", "draft_length": 3, "draft_length_by_batch_size": ROWS}}}

ONE = request((4, 3, 3), (2, 3, 1), (2, 1, 1), (1, 1, 0), (1, 0, 0))
TWO = request((1, 3, 0), (2, 1, 1), (1, 0, 0))
"""Of both: three steps of K=3 that accepted 3, 1 and 0, three of K=1 that accepted 1, 0 and 1, two without drafts."""
OF_THREE = {
    "verify_steps": 3,
    "accepted": 4,
    "acceptance_length_drafted": 1 + 4 / 3,
    "acceptance_joint": [2 / 3, 1 / 3, 1 / 3],
    "acceptance_conditional": [2 / 3, 1 / 2, 1.0],
    "acceptance_histogram": [1, 1, 0, 1],
}
OF_ONE = {
    "verify_steps": 3,
    "accepted": 2,
    "acceptance_length_drafted": 1 + 2 / 3,
    "acceptance_joint": [2 / 3],
    "acceptance_conditional": [2 / 3],
    "acceptance_histogram": [1, 2],
}


def acceptance(*records: RequestRecord, **changes: Any) -> Acceptance:
    return summarize(records, manifest(**(FOLLOWING | changes))).acceptance


def test_each_draft_length_has_its_own_rates() -> None:
    found: dict[str, Any] = as_tree(acceptance(ONE, TWO))
    assert found["by_num_proposed"].keys() == {"1", "3"}
    assert found["by_num_proposed"]["3"] == OF_THREE
    assert found["by_num_proposed"]["1"] == OF_ONE


def test_rates_by_position_over_mixed_draft_lengths_are_null_and_counts_are_not() -> None:
    found: dict[str, Any] = as_tree(acceptance(ONE, TWO))
    blocks = [found, found["by_category"]["c"]]
    for block in blocks:
        for name in ("pooled", "macro", "macro_by_conversation"):
            assert block[name]["acceptance_joint"] is None
            assert block[name]["acceptance_conditional"] is None
    pooled = found["pooled"]
    assert (pooled["decode_steps"], pooled["verify_steps"]) == (8, 6)
    assert (pooled["proposed"], pooled["accepted"]) == (12, 6)
    assert pooled["draft_acceptance_rate"] == 6 / 12
    assert pooled["acceptance_length"] == 14 / 8
    assert pooled["acceptance_length_drafted"] == 1 + 6 / 6
    assert pooled["acceptance_histogram"] == [2, 3, 0, 1]


def test_a_run_of_one_draft_length_is_what_it_was() -> None:
    found = summarize([ONE, TWO], manifest()).acceptance
    assert found.by_num_proposed is UNSET
    assert found.pooled.acceptance_joint == pytest.approx([4 / 6, 1 / 6, 1 / 6])


def counters(proposed: tuple[int, ...] | None, accepted: tuple[int, ...] = (3, 1, 1, 0)) -> AcceptanceCounters:
    return AcceptanceCounters(
        num_verify_steps=4, num_accepted=5, num_proposed=8, num_decode_steps=5, per_step_proposed=proposed,
        per_step_accepted=accepted,
    )  # fmt: skip


def merged(found: AcceptanceCounters) -> RequestRecord:
    """The steps of `ONE` in one chunk, with the engine's counts of each verify step."""
    return request((10, None, None), counters=found)


def test_the_engine_s_counts_of_each_step_do_where_chunks_are_merged() -> None:
    found: dict[str, Any] = as_tree(acceptance(merged(counters((3, 3, 1, 1))), TWO))
    assert found["by_num_proposed"] == {"1": OF_ONE, "3": OF_THREE}


def test_steps_whose_proposals_the_stream_hides_are_counted_by_the_engine() -> None:
    """vLLM in process: each chunk is a step, and only the counters tell what it proposed."""
    steps = request(
        (4, None, 3), (2, None, 1), (2, None, 1), (1, None, 0), (1, None, 0), counters=counters((3, 3, 1, 1))
    )
    found: dict[str, Any] = as_tree(acceptance(steps, TWO))
    assert found["by_num_proposed"]["3"] == OF_THREE


@pytest.mark.parametrize("found", [counters(None), counters((3, 3, 1))], ids=["not told", "contradicting"])
def test_unknown_proposals_leave_it_null(found: AcceptanceCounters) -> None:
    told = acceptance(merged(found), TWO)
    assert told.by_num_proposed is None
    assert told.pooled.acceptance_joint is None


def test_totals_of_a_run_tell_no_step() -> None:
    total = AcceptanceCounters(num_verify_steps=4, num_accepted=5, num_proposed=8, histogram=(1, 2, 0, 1))
    record = request((10, None, None), source="engine_total")
    told = acceptance(record, engine_totals=total)
    assert told.by_num_proposed is None
    assert told.pooled.acceptance_joint is None
    assert told.pooled.acceptance_length_drafted == 1 + 5 / 4


def test_labels_name_the_largest_and_the_smallest() -> None:
    labels = run_labels(manifest(**FOLLOWING))
    assert (labels.draft_length, labels.draft_lengths) == (3, "3..0")
    assert run_labels(manifest()).draft_lengths is None


def test_the_draft_reaches_at_least_as_far_as_its_shortest_drafts() -> None:
    assert DraftReach(manifest(**FOLLOWING))._draft_length == 0
    assert DraftReach(manifest())._draft_length == 3
