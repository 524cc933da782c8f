"""The transformers engine at temperature 0 against an independent draft-and-verify, token for token, step for step.

float64 leaves nothing to arithmetic: everything must be equal. In float32 a cached pass over several tokens and a
pass over the whole sequence may round differently; there a difference is excused only where the two best logits
lie within 1e-4 in float64.
"""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from transformers import LogitsProcessorList, MinNewTokensLengthLogitsProcessor
from transformers.generation.candidate_generator import PromptLookupCandidateGenerator

from tests.helpers.draft_and_verify import Context, Ending, Outcome, prompt_lookup
from tests.helpers.engine_runs import NGRAM_MAX, EnginePool, ask
from tests.helpers.exactness import CELLS, SAMPLING, Pair, Truths, assert_equal

PROMPT_STRIDE = {"float64": 1, "float32": 2}
"""float32 takes every second of the demo prompts that float64 takes."""

NEAR_TIE = 1e-4


def first_difference(left: Sequence[Any], right: Sequence[Any]) -> int:
    """Returns the first position at which the two differ."""
    pairs = zip(left, right, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))


@pytest.mark.parametrize(("method", "k"), CELLS)
def test_float64_equals_the_reference_step_for_step(
    engines: EnginePool, truths: Truths, tiny: Pair, method: str, k: int
) -> None:
    ending = Ending(**SAMPLING, stops=frozenset(tiny.stops))
    histogram, expected = [0] * (k + 1), [0] * (k + 1)
    for prompt in tiny.prompts[:: PROMPT_STRIDE["float64"]]:
        result = engines.remembered(engines.get(method, k), prompt, **SAMPLING, stop_token_ids=tiny.stops)
        truth = truths.outcome(tiny, method, k, prompt, ending)
        assert_equal(result, truth, ending, k)
        histogram = [a + b for a, b in zip(histogram, result.histogram(k), strict=True)]
        expected = [a + b for a, b in zip(expected, truth.histogram(k), strict=True)]
    assert histogram == expected
    assert sum(histogram) > 0, "nothing was drafted, so nothing was tested"
    assert 0 < sum(j * count for j, count in enumerate(histogram)) < k * sum(histogram), "some drafts kept, not all"


@pytest.mark.parametrize(("method", "k"), CELLS)
def test_float32_equals_the_reference_step_for_step(
    engines: EnginePool, truths: Truths, tiny: Pair, method: str, k: int
) -> None:
    """A request may differ only from a step on in which target or draft had to break a near-tie."""
    ending = Ending(**SAMPLING, stops=frozenset(tiny.stops))
    unexcused = []
    for number, prompt in enumerate(tiny.prompts[:: PROMPT_STRIDE["float32"]]):
        engine = engines.get(method, k, "float32")
        result = engines.remembered(engine, prompt, **SAMPLING, stop_token_ids=tiny.stops)
        truth = truths.outcome(tiny, method, k, prompt, ending, "float32")
        counts = [step.counts for step in truth.steps]
        if result.token_ids == truth.token_ids and result.steps == counts:
            assert_equal(result, truth, ending, k)
            continue
        step = min(
            first_difference(result.steps, counts),
            step_of_token(truth, first_difference(result.token_ids, truth.token_ids)),
        )
        gap = smallest_gap(truths, tiny, prompt, truth, step)
        if gap >= NEAR_TIE:
            unexcused.append(f"prompt {number}, step {step}: smallest float64 gap {gap}")
    assert not unexcused, "\n".join(unexcused)


def step_of_token(truth: Outcome, position: int) -> int:
    """Returns the step that emitted that token of the output."""
    for index, step in enumerate(truth.steps):
        position -= len(step.token_ids)
        if position < 0:
            return index
    return len(truth.steps) - 1


def smallest_gap(truths: Truths, pair: Pair, prompt: Sequence[int], truth: Outcome, step: int) -> float:
    """Returns the closest decision, in float64, that either model took in that step."""
    start: Context = (*prompt, *(token_id for past in truth.steps[:step] for token_id in past.token_ids))
    target, draft = truths.model(pair.target, "float64"), truths.model(pair.draft, "float64")
    emitted, drafts = truth.steps[step].token_ids, truth.steps[step].drafts
    gaps = [target.gap((*start, *emitted[:i])) for i in range(len(emitted))]
    gaps += [draft.gap((*start, *drafts[:i])) for i in range(len(drafts))]
    return min(gaps)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("method", "k"), CELLS)
def test_lossless(engines: EnginePool, truths: Truths, tiny: Pair, method: str, k: int, dtype: str) -> None:
    """Drafting changes no token: the outputs are those of the engine's own plain decoding."""
    divergences = []
    for number, prompt in enumerate(tiny.prompts[:: PROMPT_STRIDE[dtype]]):
        plain, drafted = (
            engines.remembered(engine, prompt, **SAMPLING, stop_token_ids=tiny.stops)
            for engine in (engines.get("none", 0, dtype), engines.get(method, k, dtype))
        )
        if plain.token_ids != drafted.token_ids:
            at = first_difference(plain.token_ids, drafted.token_ids)
            gap = truths.model(tiny.target, "float64").gap((*prompt, *plain.token_ids[:at]))
            divergences.append((f"prompt {number}, token {at}: float64 gap {gap}", gap))
    if dtype == "float64":
        assert not divergences, divergences
    assert all(gap < NEAR_TIE for _, gap in divergences), divergences


@pytest.mark.parametrize("min_new_tokens", [0, 4])
def test_the_reference_looks_up_as_transformers_does(min_new_tokens: int) -> None:
    """2,000 random contexts of few distinct tokens: the same proposals, and none beyond remaining - 1."""
    generator = torch.Generator().manual_seed(0)
    stops = torch.tensor([2, 5])
    for trial in range(2_000):
        length, vocabulary = (int(torch.randint(low, high, (), generator=generator)) for low, high in ((2, 30), (3, 9)))
        prompt_length = int(torch.randint(1, length, (), generator=generator))
        context = torch.randint(0, vocabulary, (1, length), generator=generator)
        k, ngram_max, num_emitted = 1 + trial % 5, 1 + trial % 3, length - prompt_length
        remaining = 1 + trial % 7
        processor = MinNewTokensLengthLogitsProcessor(prompt_length, min_new_tokens, stops)
        theirs = PromptLookupCandidateGenerator(
            eos_token_id=stops,
            num_output_tokens=k,
            max_matching_ngram_size=ngram_max,
            max_length=length + remaining,
            logits_processor=LogitsProcessorList([processor] if min_new_tokens else []),
            vocab_size=vocabulary,
        ).get_candidates(context)[0][0, length:]
        ending = Ending(
            max_new_tokens=num_emitted + remaining, stops=frozenset(stops.tolist()), min_new_tokens=min_new_tokens
        )
        propose = prompt_lookup(k, ngram_max, ending)
        ours = propose(tuple(context[0].tolist()), num_emitted, min(k, remaining - 1))
        assert ours == theirs.tolist()[: remaining - 1]


@pytest.mark.parametrize("sampling", [{"temperature": 0.7}, {"top_k": 20}, {"top_p": 0.9}], ids=str)
def test_sampling_does_not_change_what_is_looked_up(
    engines: EnginePool, tiny: Pair, sampling: dict[str, float]
) -> None:
    """Proposals come from the context alone: temperature, top-k and top-p forbid none of them."""
    k, max_new_tokens = 3, 64
    ending = Ending(max_new_tokens=max_new_tokens)
    propose = prompt_lookup(k, NGRAM_MAX, ending)
    for seed, prompt in enumerate(tiny.prompts[:2]):
        drawn = {"max_new_tokens": max_new_tokens, "seed": seed, "temperature": 1.0} | sampling
        result = ask(engines.get("ngram", k), prompt, **drawn)
        num_emitted = 1
        for size, num_proposed, _ in result.steps[1:]:
            context = (*prompt, *result.token_ids[:num_emitted])
            assert num_proposed == len(propose(context, num_emitted, min(k, max_new_tokens - num_emitted - 1)))
            num_emitted += size
