"""One request of the transformers engine leaves nothing behind for the next."""

import asyncio
import json
import shutil
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from specdec_bench.config import checkpoints
from specdec_bench.errors import EngineError
from specdec_bench.records.request import GenerationRequest, RequestSampling
from tests.helpers.engine_runs import DRAFT, TARGET, EnginePool, ask, experiment, spec_of, started
from tests.helpers.exactness import METHODS, Pair


def test_the_last_chunk_alone_tells_the_reason(engines: EnginePool, tiny: Pair) -> None:
    engine = engines.get("draft_model", 3)

    async def chunks() -> list[Any]:
        return [chunk async for chunk in engine.stream(greedy_request(tiny.prompts[0], 12))]

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
