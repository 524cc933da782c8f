"""The transformers engine at temperature 0 against an independent draft-and-verify, token for token, step for step.

float64 leaves nothing to arithmetic: everything must be equal. In float32 a cached pass over several tokens and a
pass over the whole sequence may round differently; there a difference is excused only where the two best logits
lie within 1e-4 in float64.
"""

import asyncio
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
)
from transformers.generation.candidate_generator import PromptLookupCandidateGenerator

from specdec_bench.config import checkpoints
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.engines.base import create
from specdec_bench.errors import ConfigError, EngineError, SpecDecBenchError
from specdec_bench.records.request import GenerationRequest, RequestSampling
from tests.helpers.draft_and_verify import (
    Context,
    Ending,
    GreedyModel,
    Outcome,
    decode,
    draft_model,
    prompt_lookup,
    propose_nothing,
)
from tests.helpers.engine_runs import (
    DRAFT,
    NGRAM_MAX,
    TARGET,
    EnginePool,
    Result,
    ask,
    demo_prompts,
    experiment,
    raw_model,
    spec_of,
    started,
)

CELLS = [(method, k) for method in ("ngram", "draft_model") for k in (1, 3, 5)]
METHODS = [("none", 0), ("ngram", 3), ("draft_model", 3)]
PROMPT_STRIDE = {"float64": 1, "float32": 2}
"""float32 takes every second of the demo prompts that float64 takes."""
SAMPLING = {"max_new_tokens": 64}
NEAR_TIE = 1e-4
VOCABULARY = 64
"""Of the random models, which say a stop token and reject a draft much more often than the bundled ones."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A target, its draft, and prompts for them."""

    target: str
    draft: str
    prompts: list[list[int]]
    stops: tuple[int, ...]


class Truths:
    """The reference's outcomes. One memory of next tokens for each model serves all cells."""

    def __init__(self) -> None:
        self._models: dict[tuple[str, str], GreedyModel] = {}

    def model(self, path: str, dtype: str) -> GreedyModel:
        if (path, dtype) not in self._models:
            self._models[path, dtype] = GreedyModel(raw_model(path, dtype))
        return self._models[path, dtype]

    def outcome(
        self, pair: Pair, method: str, k: int, prompt: Sequence[int], ending: Ending, dtype: str = "float64"
    ) -> Outcome:
        propose = propose_nothing
        if method == "ngram":
            propose = prompt_lookup(k, NGRAM_MAX, ending)
        elif method == "draft_model":
            propose = draft_model(self.model(pair.draft, dtype), ending)
        return decode(self.model(pair.target, dtype), prompt, ending, k, propose)


@pytest.fixture(scope="module")
def engines() -> Iterator[EnginePool]:
    pool = EnginePool()
    yield pool
    pool.stop()


@pytest.fixture(scope="module")
def truths() -> Truths:
    return Truths()


@pytest.fixture(scope="module")
def tiny() -> Pair:
    """The bundled pair, and first turns spread evenly over the demo prompts."""
    prompts, stops = demo_prompts(8)
    return Pair(target=TARGET, draft=DRAFT, prompts=prompts, stops=stops)


@pytest.fixture(scope="module")
def random_pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Two untrained models: the draft is the target with a little noise, so that it is often right, often not."""
    folder = tmp_path_factory.mktemp("random")
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=64,
        max_position_embeddings=256,
        initializer_range=0.5,
        bos_token_id=None,
        eos_token_id=3,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder / "target")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(folder / "draft")
    prompts = [[(i * 7 + j * j) % VOCABULARY for j in range(4 + i)] for i in range(7)]
    return Pair(target=str(folder / "target"), draft=str(folder / "draft"), prompts=prompts, stops=(3, 17))


@pytest.fixture(scope="module")
def twin(random_pair: Pair) -> Pair:
    """The random target as its own draft: every draft is right, so every step can be written down by hand."""
    return Pair(
        target=random_pair.target, draft=random_pair.target, prompts=random_pair.prompts, stops=random_pair.stops
    )


def assert_equal(result: Result, truth: Outcome, ending: Ending, k: int) -> None:
    """Asserts that the engine gave what the reference gives: tokens, each step's counts, histogram, reason."""
    assert result.token_ids == truth.token_ids
    assert result.steps == [step.counts for step in truth.steps]
    assert result.histogram(k) == truth.histogram(k)
    assert len(result.steps) - 1 == truth.num_decode_steps
    assert result.finish_reason == ("stop" if truth.token_ids[-1] in ending.stops else "length")


def first_difference(left: Sequence[Any], right: Sequence[Any]) -> int:
    """Returns the first position at which the two differ."""
    pairs = zip(left, right, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))


# ---------------------------------------------------------------- the demo prompts


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


# ---------------------------------------------------------------- edges of a request


def engine_of(engines: EnginePool, pair: Pair, method: str, k: int) -> Any:
    return engines.get(method, k, "float64", pair.target, pair.draft)


@pytest.mark.parametrize(("method", "k"), [("none", 0), *CELLS])
@pytest.mark.parametrize("max_new_tokens", [1, 2, 3, 28])
def test_random_models_equal_the_reference(
    engines: EnginePool, truths: Truths, random_pair: Pair, method: str, k: int, max_new_tokens: int
) -> None:
    """Two stop ids, many rejections, and every distance from the limit."""
    ending = Ending(max_new_tokens=max_new_tokens, stops=frozenset(random_pair.stops))
    for prompt in random_pair.prompts:
        result = ask(
            engine_of(engines, random_pair, method, k),
            prompt,
            max_new_tokens=max_new_tokens,
            stop_token_ids=random_pair.stops,
        )
        assert_equal(result, truths.outcome(random_pair, method, k, prompt, ending), ending, k)


@pytest.mark.parametrize(("method", "k"), METHODS)
def test_one_token_is_the_prefill_alone(engines: EnginePool, tiny: Pair, method: str, k: int) -> None:
    result = ask(engines.get(method, k), tiny.prompts[0], max_new_tokens=1)
    assert (result.steps, result.finish_reason) == ([(1, 0, 0)], "length")


@pytest.mark.parametrize(("method", "k"), METHODS)
def test_two_tokens_leave_nothing_to_draft(engines: EnginePool, tiny: Pair, method: str, k: int) -> None:
    """The second and last token is the target's own: one decode step, no verify step."""
    result = ask(engines.get(method, k), tiny.prompts[0], max_new_tokens=2)
    assert (result.steps, result.finish_reason) == ([(1, 0, 0), (1, 0, 0)], "length")
    assert result.histogram(k) == [0] * (k + 1)


@pytest.mark.parametrize(
    ("max_new_tokens", "steps"),
    [
        (3, [(1, 0, 0), (2, 1, 1)]),
        (7, [(1, 0, 0), (6, 5, 5)]),
        (8, [(1, 0, 0), (6, 5, 5), (1, 0, 0)]),
        (10, [(1, 0, 0), (6, 5, 5), (3, 2, 2)]),
        (13, [(1, 0, 0), (6, 5, 5), (6, 5, 5)]),
    ],
)
def test_a_perfect_draft_of_five(
    engines: EnginePool, twin: Pair, max_new_tokens: int, steps: list[tuple[int, int, int]]
) -> None:
    """1 token from the prefill, 6 a step, and at most remaining - 1 drafts in the last."""
    result = ask(engine_of(engines, twin, "draft_model", 5), twin.prompts[0], max_new_tokens=max_new_tokens)
    assert (result.steps, result.finish_reason) == (steps, "length")


def stop_at(engines: EnginePool, pair: Pair, position: int) -> tuple[list[int], list[int]]:
    """Returns a prompt whose plain output has a token at `position` that it did not have before, and that output."""
    for prompt in pair.prompts:
        output = engines.remembered(engine_of(engines, pair, "none", 0), prompt, max_new_tokens=20).token_ids
        if output[position] not in output[:position]:
            return prompt, output
    raise AssertionError(f"no prompt's output has a new token at {position}")


@pytest.mark.parametrize(("method", "k"), METHODS)
def test_end_of_sequence_as_the_first_token(
    engines: EnginePool, random_pair: Pair, tiny: Pair, method: str, k: int
) -> None:
    for pair in (random_pair, tiny):
        prompt, output = stop_at(engines, pair, 0)
        result = ask(engine_of(engines, pair, method, k), prompt, max_new_tokens=20, stop_token_ids=(output[0],))
        assert (result.token_ids, result.steps) == (output[:1], [(1, 0, 0)])
        assert result.finish_reason == "stop"


@pytest.mark.parametrize("position", [1, 2, 4, 5])
def test_end_of_sequence_accepted_as_a_draft(engines: EnginePool, twin: Pair, position: int) -> None:
    """The draft ends with its stop token; all of it is accepted, and there is no bonus."""
    prompt, output = stop_at(engines, twin, position)
    engine = engine_of(engines, twin, "draft_model", 5)
    result = ask(engine, prompt, max_new_tokens=20, stop_token_ids=(output[position],))
    assert result.token_ids == output[: position + 1]
    assert (result.steps, result.finish_reason) == ([(1, 0, 0), (position, position, position)], "stop")


def test_end_of_sequence_as_the_bonus_token(engines: EnginePool, twin: Pair) -> None:
    prompt, output = stop_at(engines, twin, 6)
    engine = engine_of(engines, twin, "draft_model", 5)
    result = ask(engine, prompt, max_new_tokens=20, stop_token_ids=(output[6],))
    assert (result.token_ids, result.steps) == (output[:7], [(1, 0, 0), (6, 5, 5)])
    assert result.finish_reason == "stop"


def test_the_first_of_several_stop_ids_ends_the_request(engines: EnginePool, twin: Pair) -> None:
    prompt, output = stop_at(engines, twin, 3)
    others = tuple(token_id for token_id in range(VOCABULARY) if token_id not in output[:3])
    engine = engine_of(engines, twin, "draft_model", 5)
    result = ask(engine, prompt, max_new_tokens=20, stop_token_ids=others)
    assert (result.token_ids, result.steps) == (output[:4], [(1, 0, 0), (3, 3, 3)])


@pytest.mark.parametrize(("method", "k"), METHODS)
def test_without_stop_ids_nothing_but_the_limit_ends_a_request(
    engines: EnginePool, truths: Truths, tiny: Pair, method: str, k: int
) -> None:
    """The checkpoint's own end-of-sequence token is an ordinary one then, drafted, verified and followed."""
    ending = Ending(max_new_tokens=80)
    plain = engines.get("none")
    replies = [engines.remembered(plain, prompt, **SAMPLING, stop_token_ids=tiny.stops) for prompt in tiny.prompts]
    ended = [p for p, reply in zip(tiny.prompts, replies, strict=True) if reply.finish_reason == "stop"]
    assert ended, "no prompt's reply ends within the limit, so nothing is tested"
    for prompt in ended[:2]:
        result = ask(engines.get(method, k), prompt, max_new_tokens=80)
        assert tiny.stops[0] in result.token_ids[:-1]
        assert result.finish_reason == "length"
        assert_equal(result, truths.outcome(tiny, method, k, prompt, ending), ending, k)


@pytest.mark.parametrize(("method", "k"), METHODS)
def test_min_new_tokens_forbids_the_stop_ids_until_then(
    engines: EnginePool, truths: Truths, random_pair: Pair, method: str, k: int
) -> None:
    stops_early = 0
    for prompt in random_pair.prompts:
        output = engines.remembered(engine_of(engines, random_pair, "none", 0), prompt, max_new_tokens=20).token_ids
        stops = tuple({output[2], output[9]})
        ending = Ending(max_new_tokens=30, min_new_tokens=8, stops=frozenset(stops))
        sampling = {"max_new_tokens": 30, "min_new_tokens": 8, "stop_token_ids": stops}
        result = ask(engine_of(engines, random_pair, method, k), prompt, **sampling)
        assert not set(stops) & set(result.token_ids[:8][:-1])
        assert len(result.token_ids) >= 8
        stops_early += result.finish_reason == "stop"
        assert_equal(result, truths.outcome(random_pair, method, k, prompt, ending), ending, k)
    assert stops_early > 0


@pytest.mark.parametrize(("method", "k"), METHODS)
def test_a_prompt_of_one_token(
    engines: EnginePool, truths: Truths, tiny: Pair, random_pair: Pair, method: str, k: int
) -> None:
    ending = Ending(max_new_tokens=24)
    for pair, prompt in ((random_pair, [5]), (random_pair, [0]), (tiny, [tiny.prompts[0][-1]])):
        result = ask(engine_of(engines, pair, method, k), prompt, max_new_tokens=24)
        assert_equal(result, truths.outcome(pair, method, k, prompt, ending), ending, k)


@pytest.mark.parametrize(("method", "k"), METHODS)
def test_the_padding_id_is_an_ordinary_token_of_a_prompt(
    engines: EnginePool, truths: Truths, tiny: Pair, random_pair: Pair, method: str, k: int
) -> None:
    """Token 0 is attended to, in front, in the middle and at the end, by target and draft."""
    ending = Ending(max_new_tokens=24)
    for pair in (random_pair, tiny):
        middle = pair.prompts[5][:10]
        for prompt in ([0, 0, 0, *middle], [*middle, 0, 0, *middle, 0], [0] * 12):
            result = ask(engine_of(engines, pair, method, k), prompt, max_new_tokens=24)
            assert_equal(result, truths.outcome(pair, method, k, prompt, ending), ending, k)


# ---------------------------------------------------------------- one request after another


def test_the_last_chunk_alone_tells_the_reason(engines: EnginePool, tiny: Pair) -> None:
    async def chunks() -> list[Any]:
        request = greedy_request(tiny.prompts[0], 12)
        return [chunk async for chunk in engines.get("draft_model", 3).stream(request)]

    received = asyncio.run(chunks())
    assert all(chunk.token_ids and chunk.received_ns is not None for chunk in received)
    assert [chunk.finish_reason for chunk in received] == [None] * (len(received) - 1) + ["length"]
    times = [chunk.received_ns for chunk in received]
    assert times == sorted(times)


def greedy_request(prompt: Sequence[int], max_new_tokens: int) -> GenerationRequest:
    sampling = RequestSampling(max_new_tokens=max_new_tokens)
    return GenerationRequest(request_id="r", prompt_token_ids=tuple(prompt), sampling=sampling)


@pytest.mark.parametrize(("method", "k"), METHODS)
def test_a_cancelled_request_leaves_nothing_behind(engines: EnginePool, tiny: Pair, method: str, k: int) -> None:
    engine = engines.get(method, k)
    prompt, other = tiny.prompts[:2]
    before = ask(engine, prompt, max_new_tokens=24)

    async def leave_early() -> int:
        async with aclosing(engine.stream(greedy_request(other, 200))) as stream:  # type: ignore[type-var]
            return len([await anext(stream) for _ in range(2)])

    assert asyncio.run(leave_early()) == 2
    assert ask(engine, prompt, max_new_tokens=24) == before


@pytest.mark.parametrize(("method", "k"), METHODS)
def test_a_failed_request_leaves_nothing_behind(engines: EnginePool, tiny: Pair, method: str, k: int) -> None:
    """A token id beyond the vocabulary fails inside the model, which is an EngineError of one line."""
    engine = engines.get(method, k)
    prompt = tiny.prompts[0]
    before = ask(engine, prompt, max_new_tokens=24)

    async def fail() -> None:
        async with aclosing(engine.stream(greedy_request([10**6], 8))) as stream:  # type: ignore[type-var]
            async for _ in stream:
                pass

    with pytest.raises(EngineError) as failure:
        asyncio.run(fail())
    assert "\n" not in str(failure.value)
    assert ask(engine, prompt, max_new_tokens=24) == before


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(("method", "k"), METHODS)
def test_the_seed_alone_decides(engines: EnginePool, tiny: Pair, method: str, k: int, temperature: float) -> None:
    """The same request twice is the same to the last count, whatever ran between; greedy ignores the seed."""
    engine = engines.get(method, k)
    sampling = {"max_new_tokens": 32, "temperature": temperature}
    first = ask(engine, tiny.prompts[0], **sampling, seed=1)
    other = ask(engine, tiny.prompts[0], **sampling, seed=2)
    assert ask(engine, tiny.prompts[0], **sampling, seed=1) == first
    assert (other == first) == (temperature == 0)


def with_sampling_defaults(path: str, folder: Path) -> str:
    """Returns a copy of a checkpoint whose generation config would change any output."""
    shutil.copytree(checkpoints.resolve(path), folder)
    defaults = {
        "do_sample": True,
        "temperature": 0.3,
        "top_k": 2,
        "top_p": 0.5,
        "repetition_penalty": 5.0,
        "no_repeat_ngram_size": 2,
        "max_new_tokens": 5,
        "eos_token_id": list(range(200)),
        "num_assistant_tokens": 9,
    }
    (folder / "generation_config.json").write_text(json.dumps(defaults), encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(("method", "k"), METHODS)
def test_a_checkpoints_sampling_defaults_change_nothing(
    engines: EnginePool, tiny: Pair, tmp_path: Path, method: str, k: int, temperature: float
) -> None:
    spec = spec_of(method, k, with_sampling_defaults(DRAFT, tmp_path / "draft"))
    engine = started(experiment(spec, target=with_sampling_defaults(TARGET, tmp_path / "target")))
    sampling = {"max_new_tokens": 24, "temperature": temperature, "seed": 3}
    assert ask(engine, tiny.prompts[0], **sampling) == ask(engines.get(method, k), tiny.prompts[0], **sampling)
    asyncio.run(engine.stop())


# ---------------------------------------------------------------- n-gram lookup


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


# ---------------------------------------------------------------- what does not start


def checkpoint_without_weights(folder: Path, vocab_size: int = VOCABULARY) -> str:
    LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=1,
        architectures=["LlamaForCausalLM"],
    ).save_pretrained(folder)
    return str(folder)


def failure_of(config: ExperimentConfig) -> SpecDecBenchError:
    """Returns why the engine did not start. One line, whatever the cause."""
    engine = create(config)
    with pytest.raises(SpecDecBenchError) as failure:
        asyncio.run(engine.start())
    asyncio.run(engine.stop())
    assert "\n" not in str(failure.value)
    return failure.value


def test_a_draft_of_another_vocabulary_is_refused_before_any_weights_load(tmp_path: Path) -> None:
    target = checkpoint_without_weights(tmp_path / "target")
    draft = checkpoint_without_weights(tmp_path / "draft", VOCABULARY + 1)
    error = failure_of(experiment(spec_of("draft_model", 3, draft), target=target))
    assert isinstance(error, ConfigError)
    assert f"spec.draft.path={draft}" in str(error)
    assert f" {VOCABULARY + 1} tokens" in str(error)
    assert str(VOCABULARY) in str(error).replace(str(VOCABULARY + 1), "")


@pytest.mark.parametrize("key", ["dtype", "torch_dtype", "device_map", "attn_implementation", "trust_remote_code"])
def test_an_argument_that_another_setting_decides_is_refused_before_any_weights_load(tmp_path: Path, key: str) -> None:
    target = checkpoint_without_weights(tmp_path / "target")
    error = failure_of(experiment(spec_of("none", 0), target=target, extra_args={key: "auto"}))
    assert isinstance(error, ConfigError)
    assert f"engine.extra_args.{key}" in str(error)


def test_an_unknown_argument_is_refused_before_any_weights_load(tmp_path: Path) -> None:
    target = checkpoint_without_weights(tmp_path / "target")
    error = failure_of(experiment(spec_of("none", 0), target=target, extra_args={"low_cpu_mem_usag": True}))
    assert isinstance(error, ConfigError)
    assert "engine.extra_args.low_cpu_mem_usag" in str(error)


@pytest.mark.parametrize("missing", ["target", "draft"])
def test_missing_weights_are_an_engine_error_by_path(tmp_path: Path, random_pair: Pair, missing: str) -> None:
    paths = {"target": random_pair.target, "draft": random_pair.draft}
    paths[missing] = checkpoint_without_weights(tmp_path / missing)
    error = failure_of(experiment(spec_of("draft_model", 3, paths["draft"]), target=paths["target"]))
    assert isinstance(error, EngineError)
    assert paths[missing] in str(error)


@pytest.mark.parametrize("damaged", ["target", "draft"])
def test_damaged_weights_are_an_engine_error_by_path(tmp_path: Path, random_pair: Pair, damaged: str) -> None:
    paths = {"target": random_pair.target, "draft": random_pair.draft}
    folder = tmp_path / damaged
    shutil.copytree(paths[damaged], folder)
    paths[damaged] = str(folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    error = failure_of(experiment(spec_of("draft_model", 3, paths["draft"]), target=paths["target"]))
    assert isinstance(error, EngineError)
    assert paths[damaged] in str(error)


@pytest.mark.parametrize("incomplete", ["target", "draft"])
def test_weights_that_lack_a_tensor_are_an_engine_error_by_path(
    tmp_path: Path, random_pair: Pair, incomplete: str
) -> None:
    """transformers fills what is missing with random numbers; figures of such a model would mean nothing."""
    paths = {"target": random_pair.target, "draft": random_pair.draft}
    model = LlamaForCausalLM.from_pretrained(paths[incomplete])
    tensors = model.state_dict()
    del tensors["model.layers.1.mlp.up_proj.weight"]
    model.save_pretrained(tmp_path / incomplete, state_dict=tensors)
    paths[incomplete] = str(tmp_path / incomplete)
    error = failure_of(experiment(spec_of("draft_model", 3, paths["draft"]), target=paths["target"]))
    assert isinstance(error, EngineError)
    assert paths[incomplete] in str(error)


@pytest.mark.parametrize("missing", ["target", "draft"])
def test_a_folder_without_a_checkpoint_is_an_error_by_path(tmp_path: Path, random_pair: Pair, missing: str) -> None:
    paths = {"target": random_pair.target, "draft": random_pair.draft}
    (tmp_path / "empty").mkdir()
    paths[missing] = str(tmp_path / "empty")
    error = failure_of(experiment(spec_of("draft_model", 3, paths["draft"]), target=paths["target"]))
    assert paths[missing] in str(error)
