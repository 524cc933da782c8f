"""An engine without a model: the configuration sets its acceptance and times."""

import asyncio
import os
import random
import signal
import zlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec

from specdec_bench.config.schema.engine import SyntheticEngine
from specdec_bench.config.schema.experiment import ExperimentConfig, draft_length
from specdec_bench.errors import EngineError
from specdec_bench.records.manifest import EngineDescription
from specdec_bench.records.request import AcceptanceCounters, Chunk, FinishReason, GenerationRequest, RequestSampling

STAMP = "synthetic engine: no model was run"


def create(config: ExperimentConfig) -> "SyntheticAdapter":
    """Returns the adapter, not yet started."""
    assert isinstance(config.engine, SyntheticEngine)
    rows = getattr(config.spec, "draft_length_by_batch_size", None)
    return SyntheticAdapter(config.engine, draft_length(config.spec), config.model.max_seq_len, rows)


class SyntheticAdapter:
    """Draws a request's tokens and, independently, the acceptance of each of its drafts.

    The tokens depend on the prompt alone (greedy) or on the request's seed (sampled), never on the method:
    the engine is lossless. If position i-1 was accepted, position i is accepted with probability
    `acceptance_rates[i]`.
    """

    def __init__(
        self,
        config: SyntheticEngine,
        draft_length: int | None,
        max_seq_len: int | None,
        draft_length_by_batch_size: Sequence[Sequence[int]] | None = None,
    ) -> None:
        self._config = config
        self._max_seq_len = max_seq_len
        rates = config.acceptance_rates
        # The last given rate holds for all later positions.
        self._rates = [rates[min(i, len(rates) - 1)] for i in range(draft_length or 0)]
        self._rows = draft_length_by_batch_size
        self._num_sent = self._num_in_flight = 0

    async def start(self) -> None:
        """Nothing to load."""

    async def reset(self) -> None:
        """Nothing to forget: `fail_every`, `crash_after` and `hang_after` count over the engine's life."""

    def counters(self) -> AcceptanceCounters | None:
        """Returns None: every step reports its own counts."""
        return None

    def read_back(self, sampling: RequestSampling) -> Mapping[str, Any]:
        """Returns the sampling unchanged."""
        return msgspec.structs.asdict(sampling)

    def describe(self) -> EngineDescription:
        """Returns the configuration as it is used."""
        return EngineDescription(
            arguments={"acceptance_rates": list(self._rates)},
            resolved=dict(vars(self._config)),
            max_seq_len=self._max_seq_len,
            num_accelerators=0,
            reproducible=self._rows is None,  # how many requests are in flight depends on the machine
            synthetic=STAMP,
        )

    async def stop(self) -> None:
        """Nothing to free."""

    def _draft_length(self) -> int:
        """Returns K for the requests in flight: that of the first row that they do not exceed, or of the last one."""
        if self._rows is None:
            return len(self._rates)
        return next((length for _, last, length in self._rows if self._num_in_flight <= last), self._rows[-1][2])

    async def stream(self, request: GenerationRequest) -> AsyncIterator[Chunk]:
        """Yields one chunk a step, the first the prefill's.

        Raises:
            EngineError: after the first decode step of every `fail_every`-th request.
        """
        config, sampling = self._config, request.sampling
        self._num_sent += 1
        fails = config.fail_every is not None and self._num_sent % config.fail_every == 0
        hangs = config.hang_after is not None and self._num_sent > config.hang_after
        crashes = config.crash_after is not None and self._num_sent > config.crash_after

        token_key = sampling.seed if sampling.temperature > 0 else zlib.crc32(repr(request.prompt_token_ids).encode())
        tokens = random.Random(f"tokens {token_key}")
        coins = random.Random(f"acceptance {sampling.seed} {token_key}")
        stops = sampling.stop_token_ids

        def next_token(position: int) -> int:
            if stops and position >= sampling.min_new_tokens and tokens.random() < config.stop_probability:
                return stops[0]
            token = tokens.randrange(config.vocab_size)
            while token in stops:
                token = tokens.randrange(config.vocab_size)
            return token

        self._num_in_flight += 1
        try:
            await asyncio.sleep(config.ttft_ms / 1e3)
            emitted = 1
            token = next_token(0)
            finished = token in stops or emitted == sampling.max_new_tokens
            yield Chunk([token], 0, 0, finish_reason=_reason(token, stops) if finished else None)
            while not finished:
                await asyncio.sleep(config.step_time_ms / 1e3)
                num_proposed = min(self._draft_length(), sampling.max_new_tokens - emitted - 1)
                num_accepted = 0
                step: list[int] = []
                while num_accepted < num_proposed and coins.random() < self._rates[num_accepted]:
                    num_accepted += 1
                    step.append(next_token(emitted + len(step)))
                    if step[-1] in stops:  # a draft ends with its own stop token, and so does the step
                        num_proposed = num_accepted
                        break
                else:
                    step.append(next_token(emitted + len(step)))
                emitted += len(step)
                finished = step[-1] in stops or emitted == sampling.max_new_tokens
                yield Chunk(
                    step, num_proposed, num_accepted, finish_reason=_reason(step[-1], stops) if finished else None
                )
                if crashes:
                    os.kill(os.getpid(), signal.SIGKILL)
                if hangs:
                    await asyncio.Event().wait()
                if fails:
                    raise EngineError(f"synthetic failure: engine.fail_every={config.fail_every}")
        finally:
            self._num_in_flight -= 1


def _reason(last_token: int, stops: tuple[int, ...]) -> FinishReason:
    return "stop" if last_token in stops else "length"
