"""Cells for the synthetic engine, and an engine that remembers what it was asked."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from specdec_bench.config.schema.engine import SyntheticEngine
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.config.schema.load import ClosedLoad
from specdec_bench.config.schema.model import ModelConfig
from specdec_bench.config.schema.sampling import SamplingConfig
from specdec_bench.config.schema.spec import NgramSpec, SpecConfig
from specdec_bench.records.manifest import EngineDescription
from specdec_bench.records.request import (
    AcceptanceCounters,
    Chunk,
    GenerationRequest,
    Prompt,
    RequestRecord,
    RequestSampling,
)
from tests.helpers import build

COUNTERS = AcceptanceCounters(num_verify_steps=1, num_accepted=2)


def experiment(
    *,
    spec: SpecConfig | None = None,
    num_warmup: int = 0,
    repeats: int = 1,
    concurrency: int = 1,
    max_seq_len: int | None = None,
    sampling: dict[str, Any] | None = None,
    **engine: Any,
) -> ExperimentConfig:
    return build.experiment(
        engine=SyntheticEngine(**({"ttft_ms": 0.0, "step_time_ms": 0.0} | engine)),
        model=ModelConfig(name="m", path="p", max_seq_len=max_seq_len),
        spec=spec or NgramSpec(),
        load=ClosedLoad(num_warmup=num_warmup, repeats=repeats, concurrency=concurrency),
        sampling=SamplingConfig(**({"max_new_tokens": 8} | (sampling or {}))),
        seed=7,
    )


def prompt(name: str, num_turns: int = 2, **changes: Any) -> Prompt:
    return build.prompt(**({"prompt_id": name, "turns": tuple(f"{name}{i}" for i in range(num_turns))} | changes))


Measure = Callable[..., list[RequestRecord]]


class Remembering:
    """Answers every request with these chunks and keeps what it was asked, resets included."""

    def __init__(self, *chunks: Chunk, totals: AcceptanceCounters | None = None, pause_s: float = 0.0) -> None:
        self._chunks = chunks or (Chunk([65, 66, 67, 68, 69, 70, 71, 72], 0, 0, finish_reason="length"),)
        self._totals = totals
        self._pause_s = pause_s
        self.asked: list[GenerationRequest] = []
        self.events: list[str] = []
        self.in_flight = self.most = 0

    async def stream(self, request: GenerationRequest) -> AsyncIterator[Chunk]:
        self.asked.append(request)
        self.events.append(request.request_id)
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            for chunk in self._chunks:
                await asyncio.sleep(self._pause_s)
                yield chunk
        finally:
            self.in_flight -= 1

    async def start(self) -> None: ...

    async def reset(self) -> None:
        self.events.append("reset")

    def counters(self) -> AcceptanceCounters | None:
        return self._totals

    def read_back(self, sampling: RequestSampling) -> dict[str, Any]:
        return msgspec.structs.asdict(sampling)

    def describe(self) -> EngineDescription:
        return EngineDescription(arguments={}, resolved={}, max_seq_len=None, num_accelerators=0, reproducible=True)

    async def stop(self) -> None: ...
