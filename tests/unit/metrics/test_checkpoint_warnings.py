"""What checkpoints make of a run's metrics is said above its table, with counts."""

from typing import Any

import pytest

from specdec_bench.metrics.summary import summarize
from specdec_bench.records.checkpoint import Checkpoint, Stated, StatedDrafter, StatedFacts
from tests.helpers.made_runs import failure, manifest, request


def draft(positions: int | None, **more: Any) -> dict[str, Checkpoint]:
    stated = None if positions is None else Stated(value=positions, file="config.json")
    return {"draft": checkpoint(facts=StatedFacts(context_length=stated), **more)}


def checkpoint(**more: Any) -> Checkpoint:
    return Checkpoint(path="m", revision=None, commit=None, fingerprint="f", files={}, **more)


def warned(checkpoints: dict[str, Checkpoint], *accepted: int, prompt_tokens: int = 1) -> list[str]:
    """Of one request with K = 3, whose prefill gives a token and each decode step one more than it accepted."""
    made = request(0, *accepted, prompt_token_ids=(1,) * prompt_tokens)
    return list(summarize([made], manifest(checkpoints=checkpoints)).warnings)


def test_steps_beyond_the_draft_s_positions_are_counted() -> None:
    """A prompt of 1: the decode steps begin at lengths 2, 4, 5 and 9, and three drafts more are to fit into 8."""
    assert warned(draft(8), 1, 0, 3, 0) == [
        "the draft has positions for 8 tokens, and 1 requests outgrew them: at least 1 of 4 decode steps began where "
        "it cannot draft, which lowers acceptance"
    ]
    (found,) = warned(draft(7), 1, 0, 3, 0)
    assert "2 of 4 decode steps" in found
    (found,) = warned(draft(64), 1, 0, prompt_tokens=100)
    assert "2 of 2 decode steps" in found
    assert warned(draft(12), 1, 0, 3, 0) == []


@pytest.mark.parametrize("checkpoints", [{}, {"draft": checkpoint()}, draft(None), draft(10**6)])
def test_where_nothing_is_known_or_wrong_nothing_is_said(checkpoints: dict[str, Checkpoint]) -> None:
    assert warned(checkpoints, 1, 1) == []


def test_other_tokens_in_the_draft_s_vocabulary() -> None:
    (found,) = warned(draft(None, vocabulary_differences=2), 1)
    assert "2 entries of the draft's vocabulary differ" in found
    assert warned(draft(None, vocabulary_differences=0), 1) == []


def test_the_summary_names_conversations_of_which_a_turn_was_refused() -> None:
    refused = {"error": failure("encoding_error"), "sent_ns": None, "steps": (), "output_token_ids": ()}
    records = [request(0, 1), request(1, 1), request(2, prompt_id="late", turn=1, **refused)]
    found = summarize(records, manifest())
    assert (found.requests.finished, found.requests.failed) == (2, 1)
    assert list(found.warnings) == [
        "the chat template or the tokenizer does not take a later turn of late (1 in all): these conversations FAILED "
        "there"
    ]


@pytest.mark.parametrize(("kind", "title"), [("pard", "a PARD drafter"), ("peagle", "a P-EAGLE head")])
def test_a_drafter_for_parallel_drafting_that_drafted_token_by_token(kind: str, title: str) -> None:
    drafter = StatedDrafter(kind=kind, sign="pard_token in config.json")
    checkpoints = {"draft": checkpoint(facts=StatedFacts(drafter=drafter))}
    (found,) = warned(checkpoints, 1)
    assert found.startswith(f"the draft is {title} (pard_token in config.json), which was trained to draft all tokens")
    made, config = request(0, 1), manifest().config
    for spec, number in (({"parallel_drafting": True}, 0), ({"parallel_drafting": False}, 1)):
        changed = manifest(checkpoints=checkpoints, config=config | {"spec": config["spec"] | spec})
        assert len(summarize([made], changed).warnings) == number


def test_a_drafter_of_another_kind_is_not_warned_of() -> None:
    drafter = StatedDrafter(kind="model", sign="architecture LlamaForCausalLM")
    assert warned({"draft": checkpoint(facts=StatedFacts(drafter=drafter))}, 1) == []
