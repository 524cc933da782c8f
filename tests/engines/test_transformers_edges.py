"""Where a request of the transformers engine ends: limits, stop tokens, prompts of one token."""

import pytest

from tests.helpers.draft_and_verify import Ending
from tests.helpers.engine_runs import EnginePool, ask
from tests.helpers.exactness import CELLS, METHODS, SAMPLING, VOCABULARY, Pair, Truths, assert_equal, engine_of


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
