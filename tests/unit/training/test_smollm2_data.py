"""What SmolLM2's drafters are trained on: conversations in turns, none of whose prompts is a benchmark's."""

import numpy as np
import pytest
import torch
from smollm2 import conversations, overlap
from smollm2.conversations import ASSISTANT, TURN_LIMITS, USER, Conversations, Template
from smollm2.network import Llama

from tests.unit.training.conftest import END, HEADERS, OPENING

ROWS, LENGTH = 8, 600


Wave = tuple[torch.Tensor, torch.Tensor]
"""The tokens, and which are a reply's."""


def write(target: Llama, template: Template, length: int, seed: int) -> Wave:
    return conversations.write(target, template, ROWS, length, torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def wave(target: Llama, template: Template) -> Wave:
    return write(target, template, LENGTH, seed=1)


def turns_of(row: list[int]) -> list[tuple[int, list[int]]]:
    """Returns (role, tokens) of each turn, read along the row: a turn ends in END, then the other's header comes."""
    found, place, role = [], len(OPENING), USER
    while place < len(row):
        end = row.index(END, place) + 1 if END in row[place:] else len(row)
        found.append((role, row[place:end]))
        role = 1 - role
        header = [token for token in HEADERS[role].tolist() if token >= 0]
        assert row[end : end + len(header)] == header[: len(row) - end]
        place = end + len(header)
    return found


def test_turns_alternate_and_end_in_time(wave: Wave) -> None:
    ids, is_reply = wave
    for row, replies in zip(ids.tolist(), is_reply.tolist(), strict=True):
        assert row[: len(OPENING)] == OPENING
        turns = turns_of(row)
        assert len(turns) > 2
        for role, tokens in turns:
            assert tokens[0] != END
            assert len(tokens) <= TURN_LIMITS[role] + 1
        assert sum(len(tokens) for role, tokens in turns if role == ASSISTANT) == sum(replies)


def test_greedy_replies_are_the_targets_most_probable_tokens(target: Llama, wave: Wave) -> None:
    ids, is_reply = wave
    wanted = target.logits(target(ids).normed).argmax(-1)[:, :-1]
    agrees = (wanted == ids[:, 1:]) | (ids[:, 1:] == END) | ~is_reply[:, 1:]
    is_sampled = torch.arange(ROWS) % conversations.SAMPLED_EVERY == conversations.SAMPLED_EVERY - 1
    # A first token that would have ended the turn is replaced by the next best.
    first = is_reply[:, 1:] & ~is_reply[:, :-1]
    assert (agrees | first)[~is_sampled].all()
    assert not agrees[is_sampled].all()


def test_the_seed_decides(target: Llama, template: Template, wave: Wave) -> None:
    assert torch.equal(write(target, template, LENGTH, seed=1)[0], wave[0])
    start = wave[0][:, :100]
    assert not torch.equal(write(target, template, 100, seed=2)[0], start)


def test_users_turns_are_found(template: Template) -> None:
    class Digits:
        def decode_batch(self, rows: list[list[int]]) -> list[str]:
            return ["-".join(map(str, row)) for row in rows]

    row = [*OPENING, 11, 12, END, 3, 7, 8, 13, END, 3, 5, 14, 15]
    rows = Conversations(ids=np.array([row]), is_reply=np.zeros((1, len(row)), bool), is_greedy=np.array([True]))
    assert list(conversations.user_turns(rows, Digits(), template)) == [["11-12", "14-15"]]  # type: ignore[arg-type]


THIRTEEN = "one two three four five six seven eight nine ten eleven twelve thirteen"
QUESTIONS = overlap.of_texts(["What's up, Doc?", f"Zero {THIRTEEN} fourteen."])


def test_equal_texts_overlap_whatever_their_punctuation() -> None:
    assert overlap.count_overlaps(["what S UP -- doc!", "What's up?"], QUESTIONS) == {
        "turns": 2,
        "distinct_turns": 2,
        "turns_equal_to_a_question": 1,
        "turns_sharing_a_run_of_words": 0,
    }


def test_thirteen_words_in_a_row_overlap_and_twelve_do_not() -> None:
    shared, twelve = f"He said: {THIRTEEN.upper()}!", THIRTEEN.removeprefix("one ")
    assert overlap.overlaps(["hello", shared], QUESTIONS)
    assert not overlap.overlaps(["hello", twelve], QUESTIONS)
    assert overlap.count_overlaps([shared, shared, twelve], QUESTIONS)["turns_sharing_a_run_of_words"] == 2
