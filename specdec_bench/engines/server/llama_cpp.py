"""llama.cpp behind its own server.

Requests are token ids to /completion. Every token of the stream comes with the request's counts of drafts so far, so
that each engine step and what it accepted are exact. /metrics has the totals.
"""

import asyncio
import itertools
import os
from typing import Any

import msgspec

from specdec_bench.config.schema.engine import LlamaCppServerEngine
from specdec_bench.config.schema.experiment import ExperimentConfig, draft_length
from specdec_bench.engines.server import llama_cpp_identity
from specdec_bench.engines.server.adapter import HOST, Launch, ServerAdapter
from specdec_bench.engines.server.http import Client, error_message
from specdec_bench.engines.server.identity import find_model
from specdec_bench.engines.server.llama_cpp_arguments import (
    Release,
    command_line,
    read_release,
    refuse_dtype,
    refuse_environment,
    server_arguments,
)
from specdec_bench.engines.server.llama_cpp_reply import LlamaCppReply
from specdec_bench.engines.server.prometheus import Metrics, difference
from specdec_bench.engines.server.steps import Steps, plain_steps
from specdec_bench.errors import ConfigError, EngineError
from specdec_bench.records.manifest import EngineDescription
from specdec_bench.records.request import AcceptanceCounters, GenerationRequest, RequestSampling

COUNTERS = "llamacpp:spec_decode_num"
"""What the names of the server's counters of drafts begin with."""
MOST_EXACT = 10**6
"""Counters without labels are written with six digits, so that they are rounded from here on."""


def create(config: ExperimentConfig) -> "LlamaCppServer":
    """Returns the adapter, not yet started."""
    return LlamaCppServer(config)


class LlamaCppServer(ServerAdapter[LlamaCppReply]):
    """One server of llama.cpp's."""

    TITLE = "llama.cpp's server"
    SHARED = ("_served_as", "_end_tokens")
    ROUTE = "/completion"
    REUSES_CONNECTIONS = False  # it closes them after a stream, and its headers say otherwise

    def __init__(self, config: ExperimentConfig) -> None:
        super().__init__(config)
        assert isinstance(config.engine, LlamaCppServerEngine)
        self._engine_config = config.engine
        self._draft_length = draft_length(config.spec) or 0
        self._release: Release | None = None
        self._arguments: dict[str, Any] = {}
        self._end_tokens: frozenset[int] = frozenset()
        """The tokens that end a reply at this server."""

    async def _prepare(self) -> None:
        refuse_dtype(self._config)
        if self._url is None:  # one that runs already tells its release by itself
            refuse_environment(os.environ)
            self._release = await asyncio.to_thread(read_release, self._engine_config.binary)
            self._arguments = server_arguments(self._config, self._release)
        elif extra := self._engine_config.extra_args:
            raise ConfigError(
                f"engine.extra_args.{next(iter(extra))}: is for a server that the run starts; leave it out beside "
                "engine.url"
            )

    def _launch(self, port: int, key: str) -> Launch:
        command = [
            self._engine_config.binary,
            *("--host", HOST, "--port", str(port), "--alias", self._served_as),
            *command_line(self._arguments),
        ]
        return Launch(command, {"LLAMA_API_KEY": key})

    async def _identify(self) -> EngineDescription:
        client, config = self._client, self._config
        told = await llama_cpp_identity.read_properties(client)
        started_as = None if self._process is None else self._served_as
        model = await find_model(client, config.model, started_as, llama_cpp_identity.model_names(told))
        probe = await self._probe()
        self._end_tokens = frozenset(bias.token for bias in probe.settings.logit_bias if bias.token is not None)
        self._before = await self._read_metrics(client)
        num_positions = len(self._before.by_label(f"{COUNTERS}_accepted_tokens_per_pos_total", "position"))
        return llama_cpp_identity.describe(
            config,
            self._arguments,
            model,
            told,
            probe,
            address=client.url,
            release=self._release,
            num_positions=num_positions or None,
            has_totals=self._before.total(f"{COUNTERS}_drafts_total") is not None,
        )

    async def _empty_caches(self) -> None:
        """Does nothing: requests say themselves that no earlier prompt may be used."""

    async def _read_metrics(self, client: Client) -> Metrics:
        """Reads the counters. Without --metrics the server answers that it does not support them."""
        answer = await client.request("GET", "/metrics")
        if answer.status == 501:
            return Metrics("")
        if answer.status != 200:
            raise EngineError(f"{client.url}/metrics: HTTP {answer.status}: {error_message(answer.body)}")
        return Metrics(answer.body.decode("utf-8", "replace"))

    def read_back(self, sampling: RequestSampling) -> dict[str, Any]:
        """Returns the sampling as llama.cpp takes it from a request's body."""
        return msgspec.structs.asdict(sampling)

    def _new_reply(self) -> LlamaCppReply:
        return LlamaCppReply()

    def _body(self, request: GenerationRequest) -> bytes:
        sampling = request.sampling
        if self._end_tokens and not self._end_tokens.issuperset(sampling.stop_token_ids):
            missing = sorted({*sampling.stop_token_ids} - self._end_tokens)
            raise EngineError(
                f"the server does not end a reply at the model's token {missing[0]}: the GGUF file's end tokens are "
                f"{sorted(self._end_tokens)}"
            )
        return msgspec.json.encode(
            {
                "prompt": request.prompt_token_ids,
                "n_predict": sampling.max_new_tokens,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "top_k": sampling.top_k,
                "seed": sampling.seed,
                # No other sampler, in the order of the other engines: by itself llama.cpp cuts before the temperature.
                "samplers": ["temperature", "top_k", "top_p"],
                "ignore_eos": not sampling.stop_token_ids,
                "cache_prompt": self._engine_config.enable_prefix_caching,
                "return_tokens": True,
                "timings_per_token": True,
                "stream": True,
            }
        )

    def _count(
        self,
        reply: LlamaCppReply,
        num_prompt_tokens: int,  # noqa: ARG002  (only vLLM shortens drafts near the context's end)
    ) -> tuple[AcceptanceCounters | None, Steps]:
        if self._is_plain:
            return None, plain_steps(reply.log.sizes)
        return reply.count(self._draft_length)

    def _totals(self, after: Metrics, before: Metrics) -> AcceptanceCounters | None:
        steps = _exact_difference(after, before, f"{COUNTERS}_drafts_total")
        name = f"{COUNTERS}_accepted_tokens_per_pos_total"
        now, then = after.by_label(name, "position"), before.by_label(name, "position")
        accepted = {position: count - then.get(position, 0) for position, count in now.items()}
        if after.total(f"{COUNTERS}_drafts_total") is None:
            return None
        at_least = [accepted.get(str(position), 0) for position in range(self._draft_length)]
        histogram = None
        if steps is not None:
            histogram = tuple(one - next_one for one, next_one in itertools.pairwise([steps, *at_least, 0]))
        return AcceptanceCounters(
            num_verify_steps=steps,
            num_accepted=sum(accepted.values()),
            num_proposed=_exact_difference(after, before, f"{COUNTERS}_draft_tokens_total"),
            histogram=histogram,
        )


def _exact_difference(after: Metrics, before: Metrics, name: str) -> int | None:
    """Returns by how much a counter grew; None once the server rounds it."""
    now = after.total(name)
    return None if now is None or now >= MOST_EXACT else difference(after, before, name)
