"""What is kept of an engine's stream, with small engines that say what they send and when."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from specdec_bench.errors import EngineError
from specdec_bench.records.manifest import EngineDescription
from specdec_bench.records.request import (
    AcceptanceCounters,
    Chunk,
    GenerationRequest,
    RequestError,
    RequestSampling,
    Step,
    StepBatch,
)
from specdec_bench.runner.messages import Counts
from specdec_bench.runner.receive import Received, receive

REQUEST = GenerationRequest(
    request_id="r", prompt_token_ids=(1,), sampling=RequestSampling(max_new_tokens=5, stop_token_ids=(0, 6))
)
COUNTERS = AcceptanceCounters(num_verify_steps=2, num_accepted=3)


class Scripted:
    """Sends these chunks; an exception among them is raised in its place, a number is a pause in seconds."""

    def __init__(self, *script: Chunk | StepBatch | BaseException | float) -> None:
        self._script = script
        self.is_closed = False

    async def stream(self, request: GenerationRequest) -> AsyncIterator[Chunk | StepBatch]:
        try:
            for item in self._script:
                if isinstance(item, BaseException):
                    raise item
                if isinstance(item, Chunk | StepBatch):
                    yield item
                else:
                    await asyncio.sleep(item)
        finally:
            self.is_closed = True

    async def start(self) -> None: ...

    async def reset(self) -> None: ...

    def counters(self) -> AcceptanceCounters | None:
        return None

    def read_back(self, sampling: RequestSampling) -> dict[str, Any]:
        return msgspec.structs.asdict(sampling)

    def describe(self) -> EngineDescription:
        return EngineDescription(
            arguments={}, resolved={}, max_seq_len=None, num_accelerators=0, reproducible=True, synthetic=None
        )

    async def stop(self) -> None: ...


def received(
    *script: Chunk | StepBatch | BaseException | float, live: Counts | None = None
) -> tuple[Received, BaseException | None]:
    engine = Scripted(*script)
    found = asyncio.run(receive(engine, REQUEST, live or Counts()))
    assert engine.is_closed, "a stream that is left open goes on generating"
    return found


def test_a_stream_by_hand() -> None:
    found, cancellation = received(
        Chunk([5], 0, 0, received_ns=100),
        Chunk([6, 7, 8], 3, 2, received_ns=110),
        Chunk([9], 3, 0, received_ns=130, finish_reason="length", counters=COUNTERS),
    )
    assert cancellation is None
    assert found.token_ids == [5, 6, 7, 8, 9]
    assert found.steps() == (
        Step(received_ns=100, num_tokens=1, num_proposed=0, num_accepted=0),
        Step(received_ns=110, num_tokens=3, num_proposed=3, num_accepted=2),
        Step(received_ns=130, num_tokens=1, num_proposed=3, num_accepted=0),
    )
    assert (found.finish_reason, found.counters, found.error) == ("length", COUNTERS, None)


def test_steps_that_come_in_batches_are_kept_apart() -> None:
    live = Counts()
    found, _ = received(
        StepBatch([5, 6, 7, 8], [1, 3], [100, 110], [0, None], [0, 2]),
        StepBatch([9], [1], [130], [None], [0], finish_reason="length", counters=COUNTERS),
        live=live,
    )
    assert found.token_ids == [5, 6, 7, 8, 9]
    assert found.steps() == (
        Step(received_ns=100, num_tokens=1, num_proposed=0, num_accepted=0),
        Step(received_ns=110, num_tokens=3, num_proposed=None, num_accepted=2),
        Step(received_ns=130, num_tokens=1, num_proposed=None, num_accepted=0),
    )
    assert (found.finish_reason, found.counters, found.steps_are_exact) == ("length", COUNTERS, True)
    assert live.output_tokens == 5


@pytest.mark.parametrize("is_joined", [False, True])
def test_only_a_whole_reply_tells_whether_its_events_are_single_steps(is_joined: bool) -> None:
    """A server's events are not known to be single steps until the counts come."""
    sizes, accepted = ([1, 2], [0, None]) if is_joined else ([1, 2], [0, 1])
    found, _ = received(
        StepBatch([5], [1], [100], [None], [None], are_exact=False),
        StepBatch(
            [5, 6, 7], sizes, [100, 110], [0, 3], accepted, "length", COUNTERS, is_whole=True, are_exact=not is_joined
        ),
    )
    assert (found.sizes, found.steps_are_exact) == ([1, 2], not is_joined)
    cut_off, _ = received(StepBatch([5], [1], [100], [None], [None], are_exact=False))
    assert not cut_off.steps_are_exact


def test_what_the_engine_does_not_tell_stays_unknown() -> None:
    found, _ = received(Chunk((5, 6), received_ns=100), Chunk((7,), received_ns=110, finish_reason="stop"))
    assert (found.proposed, found.accepted, found.sizes) == ([None, None], [None, None], [2, 1])


def test_times_are_taken_when_a_chunk_arrives() -> None:
    """On the monotonic clock, after the request was sent, and at least the engine's pause apart."""
    before = time.perf_counter_ns()
    found, _ = received(0.02, Chunk([5]), 0.01, Chunk([6], finish_reason="length"))
    after = time.perf_counter_ns()
    assert before <= found.sent_ns < found.times[0] < found.times[1] <= after
    assert found.times[0] - found.sent_ns >= 20_000_000
    assert found.times[1] - found.times[0] >= 10_000_000


def test_the_time_that_an_engines_thread_took_is_kept() -> None:
    found, _ = received(Chunk([5], received_ns=1), 0.01, Chunk([6], received_ns=2, finish_reason="length"))
    assert found.times == [1, 2]


def test_a_chunk_without_tokens_is_no_step() -> None:
    """An empty chunk at the start is not the first token, one at the end not the last."""
    found, _ = received(
        Chunk([], received_ns=90),
        Chunk([5], 0, 0, received_ns=100),
        Chunk([], received_ns=105),
        Chunk([6], 3, 0, received_ns=110),
        Chunk([], received_ns=500, finish_reason="stop", counters=COUNTERS),
    )
    assert (found.times, found.sizes, found.token_ids) == ([100, 110], [1, 1], [5, 6])
    assert (found.finish_reason, found.counters, found.error) == ("stop", COUNTERS, None)


def test_an_end_of_sequence_before_any_token_is_no_failure() -> None:
    """An empty reply is a reply: nothing was received, and nothing failed."""
    found, _ = received(Chunk([], finish_reason="stop"))
    assert (found.steps(), found.token_ids, found.error) == ((), [], None)


def test_an_engine_may_use_its_list_again() -> None:
    """SGLang's token list is live: what was received must not change afterwards."""

    class Reusing(Scripted):
        async def stream(self, request: GenerationRequest) -> AsyncIterator[Chunk | StepBatch]:
            tokens = [5]
            yield Chunk(tokens, received_ns=1)
            tokens[:] = [6, 7]
            yield Chunk(tokens, received_ns=2, finish_reason="length")
            tokens.clear()

    found, _ = asyncio.run(receive(Reusing(), REQUEST, Counts()))
    assert (found.token_ids, found.sizes) == ([5, 6, 7], [1, 2])


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (EngineError("out of pages"), "out of pages"),
        (ValueError("bad token"), "ValueError: bad token"),
        (KeyError("x"), "KeyError: 'x'"),
        (TimeoutError(), "TimeoutError: no message"),
        (RuntimeError("out of pages\n  in the second line"), "RuntimeError: out of pages"),
    ],
)
def test_a_failure_is_the_requests_own_and_keeps_what_came_before(failure: Exception, message: str) -> None:
    found, cancellation = received(Chunk([5], 0, 0, received_ns=100), Chunk([6, 7], 3, 1, received_ns=110), failure)
    assert cancellation is None
    assert found.error == RequestError(kind="engine_error", message=message)
    assert (found.token_ids, found.times) == ([5, 6, 7], [100, 110])
    assert found.finish_reason is None


def test_a_stream_that_fails_at_once_has_nothing() -> None:
    found, _ = received(EngineError("refused"))
    assert found.error == RequestError(kind="engine_error", message="refused")
    assert found.steps() == ()


@pytest.mark.parametrize("script", [(), (Chunk([5]), Chunk([6]))], ids=["nothing", "two chunks"])
def test_a_stream_that_just_ends_is_a_failure(script: tuple[Chunk, ...]) -> None:
    """Whether all tokens came is not known, so it must not pass for a finished request."""
    found, _ = received(*script)
    assert found.error is not None
    assert found.error.kind == "engine_error"
    assert "without a finish reason" in found.error.message


def test_a_cancelled_request_is_returned_with_its_cancellation() -> None:
    async def cancel() -> tuple[Received, BaseException | None]:
        engine = Scripted(Chunk([5], 0, 0, received_ns=100), 60.0)
        task = asyncio.create_task(receive(engine, REQUEST, Counts()))
        await asyncio.sleep(0.01)
        task.cancel()
        found = await task
        assert engine.is_closed
        return found

    found, cancellation = asyncio.run(cancel())
    assert isinstance(cancellation, asyncio.CancelledError)
    assert found.error == RequestError(kind="interrupted", message="the run was stopped")
    assert found.token_ids == [5]


def test_live_tokens_are_counted_chunk_by_chunk() -> None:
    live = Counts(output_tokens=10)
    received(Chunk([5]), Chunk([]), Chunk([6, 7]), EngineError("died"), live=live)
    assert live.output_tokens == 13
    assert (live.finished, live.failed) == (0, 0), "whether the request counts is decided with its record"
