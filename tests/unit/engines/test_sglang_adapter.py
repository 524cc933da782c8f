"""The adapter on a stand-in for SGLang's Engine whose steps are hidden; the real one is in tests/engines."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from specdec_bench.config.schema.engine import SGLangEngine
from specdec_bench.config.schema.model import DraftCheckpoint, ModelConfig
from specdec_bench.config.schema.spec import DraftModelSpec, NoSpec, SpecConfig
from specdec_bench.engines.sglang.adapter import SGLangAdapter
from specdec_bench.errors import EngineError
from specdec_bench.records.request import AcceptanceCounters, GenerationRequest, RequestSampling
from specdec_bench.runner.messages import Counts
from specdec_bench.runner.receive import Received, receive
from tests.helpers import build

LENGTH = {"type": "length", "length": 4}


class StandIn:
    """Sends these deliveries: so many tokens more, and how the request ended. Its list of tokens is one and live."""

    def __init__(self, *script: tuple[list[int], dict[str, Any] | None], **counts: Any) -> None:
        self._script, self._counts = script, counts
        self.aborted: list[str] = []
        self.tokenizer_manager = SimpleNamespace(abort_request=self.aborted.append, flush_cache=self._flush)
        self.is_flushed = True

    async def async_generate(self, **_: Any) -> AsyncIterator[dict[str, Any]]:
        return self._deliveries()

    async def _deliveries(self) -> AsyncIterator[dict[str, Any]]:
        live: list[int] = []
        for tokens, reason in self._script:
            live += tokens
            yield {"output_ids": live, "meta_info": {"finish_reason": reason} | (self._counts if reason else {})}

    async def _flush(self, timeout_s: float) -> Any:
        assert timeout_s > 0, "SGLang refuses at once where a finished request is still in its batch"
        return SimpleNamespace(success=self.is_flushed, message="busy")


def adapter(engine: StandIn, spec: SpecConfig) -> SGLangAdapter:
    config = build.experiment(
        engine=SGLangEngine(),
        model=ModelConfig(name="m", path="org/target"),
        spec=spec,
    )
    made = SGLangAdapter(config)
    made._engine = engine
    return made


def received(engine: StandIn, spec: SpecConfig | None = None, stops: tuple[int, ...] = (1, 2)) -> Received:
    sampling = RequestSampling(max_new_tokens=4, stop_token_ids=stops)
    request = GenerationRequest(request_id="r", prompt_token_ids=(7,), sampling=sampling)
    found, _ = asyncio.run(receive(adapter(engine, spec or NoSpec()), request, Counts()))
    return found


def test_merged_deliveries_of_a_growing_list() -> None:
    found = received(StandIn(([5], None), ([6, 8], None), ([9], LENGTH)))
    assert (found.token_ids, found.sizes, found.finish_reason) == ([5, 6, 8, 9], [1, 2, 1], "length")
    assert not found.steps_are_exact


def test_a_first_delivery_without_tokens_is_no_step() -> None:
    found = received(StandIn(([], None), ([5, 6, 8, 9], LENGTH)))
    assert (found.token_ids, found.sizes) == ([5, 6, 8, 9], [4])


@pytest.mark.parametrize("stop", [1, 2])
def test_an_end_of_sequence_alone(stop: int) -> None:
    engine = StandIn(([stop], {"type": "stop", "matched": stop}))
    found = received(engine)
    assert (found.token_ids, found.finish_reason, found.error, engine.aborted) == ([stop], "stop", None, [])


def test_counts_of_a_speculative_request() -> None:
    """The prefill and 2 verify steps: one that accepted 1 of 3 drafts and one that accepted none."""
    engine = StandIn(
        ([5], None),
        ([6, 8, 9], LENGTH),
        spec_verify_ct=2,
        spec_num_correct_drafts=1,
        spec_correct_drafts_histogram=[1, 1],
    )
    found = received(engine, DraftModelSpec(draft_length=3, draft=DraftCheckpoint(path="d")))
    assert found.counters == AcceptanceCounters(
        num_verify_steps=2, num_accepted=1, num_proposed=6, histogram=(1, 1, 0, 0)
    )


def test_a_request_that_its_prefill_ended_verified_nothing() -> None:
    spec = DraftModelSpec(draft_length=2, draft=DraftCheckpoint(path="d"))
    found = received(StandIn(([1], {"type": "stop", "matched": 1})), spec)
    assert found.counters == AcceptanceCounters(num_verify_steps=0, num_accepted=0, num_proposed=0, histogram=(0, 0, 0))


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ({"type": "abort", "message": "out of memory"}, "out of memory"),
        ({"type": "length", "length": 3}, "after 3 of 4 tokens, for lack of room"),
        ({"type": "stop", "matched": 9}, r"stopped at token 9, which is none of sampling's stops \[1, 2\]"),
    ],
)
def test_an_end_that_was_not_asked_for_is_a_failure(reason: dict[str, Any], words: str) -> None:
    found = received(StandIn(([5, 6], None), ([9], reason)))
    assert found.error is not None
    assert found.token_ids[:2] == [5, 6]
    with pytest.raises(EngineError, match=words):
        raise EngineError(found.error.message)


class LosesACancellation(StandIn):
    """The request is cancelled where Python 3.11's wait_for, in which SGLang waits, has a result already."""

    async def _deliveries(self) -> AsyncIterator[dict[str, Any]]:
        deliveries = super()._deliveries()
        yield await anext(deliveries)
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        async for delivery in deliveries:
            yield delivery


def test_a_cancellation_that_meets_a_delivery_is_not_lost() -> None:
    engine = LosesACancellation(([5], None), ([6], None), ([8, 9], LENGTH))
    request = GenerationRequest(request_id="r", prompt_token_ids=(7,), sampling=RequestSampling(max_new_tokens=4))
    found, cancellation = asyncio.run(receive(adapter(engine, NoSpec()), request, Counts()))
    assert isinstance(cancellation, asyncio.CancelledError)
    assert (found.token_ids, found.error and found.error.kind, engine.aborted) == ([5, 6], "interrupted", ["r"])


def test_a_stream_that_is_closed_early_aborts_the_request() -> None:
    engine = StandIn(([5], None), ([6], None), ([8, 9], LENGTH))

    async def close() -> None:
        sampling = RequestSampling(max_new_tokens=4)
        request = GenerationRequest(request_id="r", prompt_token_ids=(7,), sampling=sampling)
        stream = adapter(engine, NoSpec()).stream(request)
        await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]

    asyncio.run(close())
    assert engine.aborted == ["r"]


def test_a_reset_that_sglang_refuses_is_an_error() -> None:
    engine = StandIn()
    asyncio.run(adapter(engine, NoSpec()).reset())
    engine.is_flushed = False
    with pytest.raises(EngineError, match="did not flush its cache: busy"):
        asyncio.run(adapter(engine, NoSpec()).reset())
