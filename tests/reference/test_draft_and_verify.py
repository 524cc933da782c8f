"""The plain reimplementation, on models that count: the truth is read off by hand."""

from collections.abc import Callable

import torch

from tests.helpers.draft_and_verify import Context, Ending, GreedyModel, decode, draft_model, prompt_lookup


class Scripted:
    """A model whose next token is a function of the context."""

    def __init__(self, rule: Callable[[Context], int]) -> None:
        self._rule = rule

    def __call__(self, input_ids: torch.Tensor, use_cache: bool) -> "Scripted":
        self.logits = torch.zeros(1, 1, 32)
        self.logits[0, 0, self._rule(tuple(input_ids[0].tolist()))] = 1.0
        return self


def count_up(context: Context) -> int:
    return context[-1] + 1


def count_up_but_trip_at_multiples_of_four(context: Context) -> int:
    return 0 if (context[-1] + 1) % 4 == 0 else context[-1] + 1


TARGET = GreedyModel(Scripted(count_up))
DRAFT = GreedyModel(Scripted(count_up_but_trip_at_multiples_of_four))


def test_draft_model_steps() -> None:
    """The draft is wrong at 4, 8, 12: after the prefill's 2 it gets 3 right, then 5, 6, 7, and so on."""
    ending = Ending(max_new_tokens=10)
    outcome = decode(TARGET, [1], ending, 3, draft_model(DRAFT, ending))
    assert outcome.token_ids == [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    # prefill; 3|4; 5 6 7|8; then 3 tokens remain, so 2 drafts: 9 10|11
    assert [step.counts for step in outcome.steps] == [(1, 0, 0), (2, 3, 1), (4, 3, 3), (3, 2, 2)]
    assert outcome.num_decode_steps == 3
    assert outcome.histogram(3) == [0, 1, 1, 1]


def test_an_accepted_stop_token_has_no_bonus() -> None:
    ending = Ending(max_new_tokens=10, stops=frozenset({6}))
    outcome = decode(TARGET, [3], ending, 3, draft_model(DRAFT, ending))
    # prefill 4; drafts 5 6, and the draft ends there
    assert [step.counts for step in outcome.steps] == [(1, 0, 0), (2, 2, 2)]


def test_min_new_tokens_forbids_stop_tokens_to_both_models() -> None:
    """With 5 forbidden the largest of the equal logits is the lowest id, 0; the count goes on from there."""
    ending = Ending(max_new_tokens=5, stops=frozenset({5}), min_new_tokens=3)
    outcome = decode(TARGET, [3], ending, 2, draft_model(GreedyModel(Scripted(count_up)), ending))
    assert outcome.token_ids == [4, 0, 1, 2, 3]
    assert [step.counts for step in outcome.steps] == [(1, 0, 0), (3, 2, 2), (1, 0, 0)]


def test_prompt_lookup_takes_the_longest_ngram_and_its_leftmost_occurrence() -> None:
    propose = prompt_lookup(3, 2, Ending(max_new_tokens=99))
    assert propose((1, 2, 3, 4, 5, 2, 6, 7, 1, 2), 5, 3) == [3, 4, 5], "the pair 1 2 before the lone 2"
    assert propose((9, 2, 3, 4, 5, 2, 6, 7, 1, 2), 5, 3) == [3, 4, 5], "the lone 2, leftmost"
    assert propose((1, 2, 3, 4, 5, 2, 6, 7, 1, 2), 5, 1) == [3], "near the limit"
    assert propose((1, 2, 3), 1, 3) == []
    assert propose((7, 7), 1, 3) == [7], "the continuation ends with the context"
    assert propose((7, 7, 7), 1, 3) == [7], "the pair again, one token further on"
    assert propose((7,), 0, 3) == []


def test_prompt_lookup_drops_a_stop_token_and_what_follows() -> None:
    propose = prompt_lookup(3, 2, Ending(max_new_tokens=99, stops=frozenset({5})))
    assert propose((1, 2, 3, 5, 4, 1, 2), 5, 3) == [3]
    assert propose((1, 2, 5, 3, 4, 2, 8, 1, 2), 5, 3) == [], "and tries no other match"
    propose = prompt_lookup(3, 2, Ending(max_new_tokens=99, stops=frozenset({5}), min_new_tokens=9))
    assert propose((1, 2, 5, 3, 4, 2, 8, 1, 2), 5, 3) == [8, 1, 2], "a forbidden stop passes to the next occurrence"
