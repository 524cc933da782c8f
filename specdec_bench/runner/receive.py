"""Receives an engine's stream, so that every engine is timed the same way."""

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass, field

from specdec_bench.engines.base import Engine
from specdec_bench.engines.readback import fault
from specdec_bench.errors import EngineDiedError, EngineError, named
from specdec_bench.records.request import (
    AcceptanceCounters,
    Chunk,
    FinishReason,
    GenerationRequest,
    RequestError,
    RequestMade,
    Step,
    StepBatch,
)
from specdec_bench.runner.messages import Counts


@dataclass(slots=True, kw_only=True)
class Received:
    """One request's output, kept as lists of integers until the request is over.

    `times`, `sizes`, `proposed` and `accepted` have one entry per chunk, or per step of a batch.
    """

    sent_ns: int
    token_ids: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    proposed: list[int | None] = field(default_factory=list)
    accepted: list[int | None] = field(default_factory=list)
    steps_are_exact: bool = True
    """Whether the engine reported every chunk so far as one engine step."""
    counters: AcceptanceCounters | None = None
    finish_reason: FinishReason | None = None
    made: RequestMade = field(default_factory=RequestMade)
    error: RequestError | None = None

    def end(self, last: Chunk | StepBatch) -> None:
        """Stores what only the last chunk carries."""
        self.finish_reason, self.counters = last.finish_reason, last.counters
        self.made = last.made or self.made

    def steps(self) -> tuple[Step, ...]:
        """Returns the chunks as records."""
        return tuple(
            Step(received_ns=received_ns, num_tokens=size, num_proposed=proposed, num_accepted=accepted)
            for received_ns, size, proposed, accepted in zip(
                self.times, self.sizes, self.proposed, self.accepted, strict=True
            )
        )


async def receive(engine: Engine, request: GenerationRequest, live: Counts) -> tuple[Received, BaseException | None]:
    """Sends one request and takes in its stream.

    Returns:
        What was received, complete or not, and the exception to re-raise once it is recorded: the cancellation, the
        engine's death, or None.
        A failure of the request is in `Received.error`; everything that came before it is kept.
    """
    clock = time.perf_counter_ns
    live.in_flight += 1
    received = Received(sent_ns=clock())
    token_ids, times, sizes = received.token_ids, received.times, received.sizes
    proposed, accepted = received.proposed, received.accepted
    try:
        async with aclosing(engine.stream(request)) as stream:  # type: ignore[type-var]
            async for chunk in stream:
                if isinstance(chunk, StepBatch):
                    if chunk.is_whole:
                        live.output_tokens -= len(token_ids)
                        for earlier in (token_ids, times, sizes, proposed, accepted):
                            earlier.clear()
                        received.steps_are_exact = True
                    token_ids += chunk.token_ids
                    times += chunk.times_ns
                    sizes += chunk.sizes
                    proposed += chunk.num_proposed
                    accepted += chunk.num_accepted
                    live.output_tokens += len(chunk.token_ids)
                    received.steps_are_exact &= chunk.are_exact
                    if chunk.finish_reason is not None:
                        received.end(chunk)
                    continue
                now = chunk.received_ns or clock()
                size = len(chunk.token_ids)
                # A chunk without tokens (a lone finish reason) is not a step and has no time.
                if size:
                    token_ids.extend(chunk.token_ids)
                    times.append(now)
                    sizes.append(size)
                    proposed.append(chunk.num_proposed)
                    accepted.append(chunk.num_accepted)
                    live.output_tokens += size
                    if chunk.num_steps != 1:
                        received.steps_are_exact = False
                if chunk.finish_reason is not None:
                    received.end(chunk)
        if (message := fault(request, token_ids, received.finish_reason, received.made.num_prompt_tokens)) is not None:
            received.error = RequestError(kind="engine_error", message=message)
    except asyncio.CancelledError as cancellation:
        received.error = RequestError(kind="interrupted", message="the run was stopped")
        return received, cancellation
    except EngineDiedError as error:
        received.error = RequestError(kind="engine_error", message=str(error))
        return received, error
    except EngineError as error:
        received.error = RequestError(kind="engine_error", message=str(error))
    except Exception as error:  # noqa: BLE001  (whatever an engine raises fails that request, not the run)
        received.error = RequestError(kind="engine_error", message=named(error))
    finally:
        live.in_flight -= 1
    return received, None
