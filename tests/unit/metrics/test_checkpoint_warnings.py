"""What checkpoints make of a run's metrics is said above its table, with counts."""

from typing import Any

import pytest
from made_runs import failure, manifest, request

from specdec_bench.metrics.checkpoint_warnings import checkpoint_warnings
from specdec_bench.metrics.summary import summarize


def draft(positions: int | None, **more: Any) -> dict[str, Any]:
    stated = None if positions is None else {"value": positions, "file": "config.json"}
    return {"draft": {"facts": {"context_length": stated}} | more}


POOLED = {"decode_steps": 10, "verify_steps": 7}


@pytest.mark.parametrize(
    ("lengths", "num_beyond"),
    [([61], 0), ([62], 1), ([10, 64, 500], 2)],
)
def test_a_draft_that_was_outgrown(lengths: list[int], num_beyond: int) -> None:
    """64 positions and K = 3: from 62 tokens on three drafts do not fit."""
    found = checkpoint_warnings(draft(64), lengths, 3, POOLED, [])
    if not num_beyond:
        assert found == []
        return
    assert len(found) == 1
    assert f"positions for 64 tokens, and {num_beyond} of {len(lengths)} requests" in found[0]
    assert "3 of 10 decode steps drafted nothing" in found[0]


def test_steps_that_nobody_counted_are_not_made_up() -> None:
    (found,) = checkpoint_warnings(draft(64), [64], 3, {"decode_steps": None, "verify_steps": None}, [])
    assert "how many steps drafted nothing is not known" in found


@pytest.mark.parametrize("checkpoints", [{}, {"draft": {"fingerprint": "f"}}, draft(None), draft(10**6)])
def test_where_nothing_is_known_or_wrong_nothing_is_said(checkpoints: dict[str, Any]) -> None:
    assert checkpoint_warnings(checkpoints, [64], 3, POOLED, []) == []


def test_other_tokens_in_the_draft_s_vocabulary() -> None:
    (found,) = checkpoint_warnings(draft(None, vocabulary_differences=2), [], 3, POOLED, [])
    assert "2 entries of the draft's vocabulary differ" in found
    assert checkpoint_warnings(draft(None, vocabulary_differences=0), [], 3, POOLED, []) == []


def test_the_summary_names_conversations_of_which_a_turn_was_refused() -> None:
    refused = {"error": failure("encoding_error"), "sent_ns": None, "steps": (), "output_token_ids": ()}
    records = [request(0, 1), request(1, 1), request(2, prompt_id="late", turn=1, **refused)]
    found = summarize(records, manifest())
    assert (found["requests"]["finished"], found["requests"]["failed"]) == (2, 1)
    assert found["warnings"] == [
        "the chat template or the tokenizer does not take a later turn of late (1 in all): these conversations FAILED "
        "there"
    ]


def test_the_summary_counts_what_a_short_draft_left_undrafted() -> None:
    """Prompts of 1 token and replies of 1 + 2 + 2 tokens; a draft with 8 positions, 3 drafts a step."""
    found = summarize([request(0, 1, 1)], manifest(checkpoints=draft(8)))
    assert found["warnings"] == [
        "the draft has positions for 8 tokens, and 1 of 1 requests came within 3 tokens of them or went beyond: "
        "0 of 2 decode steps drafted nothing"
    ]
    assert summarize([request(0, 1, 1)], manifest(checkpoints=draft(9)))["warnings"] == []
