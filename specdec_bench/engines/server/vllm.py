"""vLLM behind its OpenAI-compatible server, started by the run or running already.

Requests are token ids to /v1/completions, whose stream gives token ids back. The last event has the request's drafts
step by step (`--per-request-spec-decode-metrics detailed`, since 0.29). Totals come from /metrics.
"""

import asyncio
import itertools
import json
import math
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from specdec_bench.archive.redact import known
from specdec_bench.config.schema.engine import VLLMServerEngine
from specdec_bench.config.schema.experiment import ExperimentConfig, draft_length
from specdec_bench.config.schema.spec import DraftingSpec, NgramSpec, SuffixSpec
from specdec_bench.engines.extra_args import check_extra_args
from specdec_bench.engines.server import vllm_identity
from specdec_bench.engines.server.completion import Reply
from specdec_bench.engines.server.http import Client, error_message
from specdec_bench.engines.server.process import ServerProcess, free_port
from specdec_bench.engines.server.prometheus import Metrics, difference
from specdec_bench.engines.server.steps import Counts, Steps, plain_steps, rebuild, unknown_steps
from specdec_bench.engines.vllm import arguments as vllm_arguments
from specdec_bench.errors import ConfigError, EngineDiedError, EngineError
from specdec_bench.records.manifest import EngineDescription
from specdec_bench.records.request import (
    AcceptanceCounters,
    GenerationRequest,
    RequestMade,
    RequestSampling,
    StepBatch,
)

IN_PROCESS_ONLY = ("skip_tokenizer_init", "disable_log_stats")
"""Arguments of engine=vllm that its server does not need."""
PROBE = (1, 2, 3)
"""Token ids that every vocabulary has."""
LEAST_TEMPERATURE = 0.01
"""vLLM raises lower ones to it. Source: vllm/sampling_params.py, SamplingParams.__post_init__."""
COMPLETIONS = "/v1/completions"
COUNTERS = "vllm:spec_decode_num"
"""What the names of the server's counters of drafts begin with."""
PROGRESS_S = 1.0
SETTLING_S = 5.0
"""How long the server's counters may lag behind its answers."""


def create(config: ExperimentConfig) -> "VLLMServer":
    """Returns the adapter, not yet started."""
    return VLLMServer(config)


class VLLMServer:
    """One server of vLLM's."""

    def __init__(self, config: ExperimentConfig) -> None:
        assert isinstance(config.engine, VLLMServerEngine)
        self._config, self._engine_config = config, config.engine
        self._is_plain = not isinstance(config.spec, DraftingSpec)
        self._url = config.engine.url_for(config.spec)
        self._process: ServerProcess | None = None
        self._key: str | None = None
        self._arguments = {
            name: value
            for name, value in vllm_arguments.engine_arguments(config).items()
            if name not in IN_PROCESS_ONLY
        }
        self._model = f"specdec-bench-{secrets.token_hex(4)}"
        self._before: Metrics | None = None
        self._description: EngineDescription | None = None

    async def start(self) -> None:
        """Starts the server, or connects to the one that runs, and finds out what it runs.

        Raises:
            ConfigError: the server runs something else than the experiment says, or lacks a flag.
            EngineError: it does not start, or does not answer.
        """
        self._arguments |= check_extra_args(
            self._engine_config.extra_args,
            self._engine_config.extra_args,  # the server itself refuses what it does not know
            settings=vllm_arguments.SETTINGS,
            fixed=vllm_arguments.FIXED,
            engine="vLLM",
            reference="vLLM's command line",
        )
        if self._url is None:
            vllm_arguments.check_acceptance_of_drafts(
                self._arguments.get("speculative_config", {}), is_cpu=vllm_arguments.is_cpu_build(), runner=None
            )
            self._key = secrets.token_hex(16)
            known().add([self._key])
            self._client = Client(self._launch(self._key), self._key)
        else:
            self._key = _key(self._engine_config.api_key_env)
            self._client = Client(self._url.rstrip("/"), self._key)
        try:
            if self._process is not None:
                await self._wait_until_ready(self._process)
            await self._identify()
        except EngineError as error:
            await self.stop()
            if self._url is None:
                raise
            raise ConfigError(f"engine.url={self._url}: {error}") from None
        except BaseException:
            await self.stop()
            raise

    def _launch(self, key: str) -> str:
        """Starts the server on a loopback port. Returns its address."""
        port = free_port()
        command = [
            *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
            *("--host", "127.0.0.1", "--port", str(port), "--served-model-name", self._model),
            *("--enable-per-request-metrics", "--disable-uvicorn-access-log"),
            *command_line(self._arguments),
        ]
        environment = {
            "VLLM_API_KEY": key,
            "VLLM_SERVER_DEV_MODE": "1",  # its routes reset the caches and tell the resolved configuration
            "VLLM_NO_USAGE_STATS": os.environ.get("VLLM_NO_USAGE_STATS", "1"),
            "VLLM_CPU_KVCACHE_SPACE": os.environ.get(
                "VLLM_CPU_KVCACHE_SPACE", str(self._engine_config.cpu_kv_cache_gib)
            ),
        }
        self._process = ServerProcess(command, environment)
        return f"http://127.0.0.1:{port}"

    async def _wait_until_ready(self, process: ServerProcess) -> None:
        deadline_s = time.monotonic() + self._engine_config.start_timeout_s
        while time.monotonic() < deadline_s:
            if (status := process.exit_status) is not None:
                raise EngineError(f"vLLM's server ended with status {status} while it started")
            try:
                if (await self._client.request("GET", "/health", timeout_s=5)).status == 200:
                    return
            except EngineError:
                pass  # not yet
            await asyncio.sleep(0.2)
        timeout_s = self._engine_config.start_timeout_s
        raise EngineError(f"vLLM's server was not ready within engine.start_timeout_s={timeout_s:g}")

    async def _identify(self) -> None:
        """Compares what the server says it runs with the experiment.

        Raises:
            ConfigError: naming the first difference, or the flag that the server lacks.
            EngineError: it does not answer as vLLM's server does.
        """
        client, config = self._client, self._config
        started_as = None if self._process is None else self._model
        model = await vllm_identity.find_model(client, config.model, started_as)
        self._model = model.name
        resolved = await vllm_identity.read_configuration(client)
        release = await vllm_identity.read_release(client)
        description = vllm_identity.describe(config, self._arguments, model, resolved, release)
        probe = await self._probe()
        self._before = await self._read_metrics(client)
        has_totals = self._before.total(f"{COUNTERS}_drafts_total") is not None
        claimed, notes = vllm_identity.check_drafting(config, probe.drafts, resolved, client.url, has_totals=has_totals)
        self._description = msgspec.structs.replace(description, claimed=(*description.claimed, *claimed), notes=notes)

    async def reset(self) -> None:
        """Clears the prefix cache, where the server lets itself be told to, and counts from here."""
        spec, client = self._config.spec, self._client
        if isinstance(spec, SuffixSpec) and spec.max_cached_requests and self._process is not None:
            await self.stop()  # vLLM cannot empty its suffix tree of earlier responses
            await self.start()
            return
        answer = await client.request("POST", "/reset_prefix_cache", {})
        if self._process is not None and answer.status != 200:
            raise EngineError(f"the server's prefix cache cannot be emptied: HTTP {answer.status}")
        self._before = await self._read_metrics(client)

    async def _read_metrics(self, client: Client) -> Metrics:
        answer = await client.request("GET", "/metrics")
        if answer.status != 200:
            raise EngineError(f"{client.url}/metrics: HTTP {answer.status}: {error_message(answer.body)}")
        return Metrics(answer.body.decode("utf-8", "replace"))

    def counters(self) -> AcceptanceCounters | None:
        """Returns the server's counts since the last reset; None for plain decoding, or where it does not answer.

        Called when no request is in flight. It waits for the server, so it has an event loop of its own.
        """
        if self._is_plain or self._before is None:
            return None
        with ThreadPoolExecutor(max_workers=1) as own:
            try:
                return own.submit(asyncio.run, self._settled_totals(self._before)).result()
            except EngineError:
                return None

    async def _settled_totals(self, before: Metrics) -> AcceptanceCounters:
        """Reads the counters until they stand still: they lag behind the answers by a moment."""
        client = Client(self._client.url, self._key)
        deadline_s, last = time.monotonic() + SETTLING_S, None
        try:
            while True:
                after = await self._read_metrics(client)
                totals = _totals(after, before, draft_length(self._config.spec) or 0)
                if totals == last or time.monotonic() > deadline_s:
                    return totals
                last = totals
                await asyncio.sleep(0.5)
        finally:
            await client.close()

    def read_back(self, sampling: RequestSampling) -> dict[str, Any]:
        """Returns the sampling as vLLM takes it from a request's body."""
        made = msgspec.structs.asdict(sampling)
        if 0 < sampling.temperature < LEAST_TEMPERATURE:
            made["temperature"] = LEAST_TEMPERATURE
        return made

    def describe(self) -> EngineDescription:
        """Returns what the server says it runs."""
        assert self._description is not None
        return self._description

    async def stop(self) -> None:
        """Ends the server, if the run started it."""
        await self._client.close()
        if self._process is not None:
            await asyncio.to_thread(self._process.stop)
            self._process = None

    async def stream(self, request: GenerationRequest) -> AsyncIterator[StepBatch]:
        """Yields the events as they come, and at the end all of them once more, with what each step accepted.

        Raises:
            EngineDiedError: the server is gone.
            EngineError: the request failed.
        """
        reply = Reply()
        try:
            answer, connection = await self._client.send("POST", COMPLETIONS, self._body(request), reply.take)
            try:
                while not answer.ended.done():
                    await asyncio.wait([answer.ended], timeout=PROGRESS_S)
                    if not answer.ended.done() and len(reply.log.sizes) > reply.log.num_passed_on:
                        yield reply.log.new()
                answer.ended.result()
                answer.check_status()
                reason = reply.check()
            finally:
                if not answer.ended.done():
                    answer.ended.cancel()
                self._client.release(connection)
            drafts, steps = self._steps(reply, len(request.prompt_token_ids))
        except EngineError as error:
            if len(reply.log.sizes) > reply.log.num_passed_on:
                yield reply.log.new()
            if await self._is_gone():
                raise EngineDiedError(f"the server at {self._client.url} is gone: {error}") from None
            raise
        made = RequestMade(num_prompt_tokens=reply.num_prompt_tokens, server_times=reply.times)
        counters = None
        if drafts is not None:
            counters = msgspec.structs.replace(drafts, num_decode_steps=steps.num_decode_steps)
        yield reply.log.whole(steps, reason, counters, made)

    async def _probe(self) -> Reply:
        """Sends one request outside the measurement, to learn whether token ids and counts come back.

        Raises:
            EngineError: there is no complete reply in time.
        """
        sampling = RequestSampling(max_new_tokens=4)
        request = GenerationRequest(request_id="probe", prompt_token_ids=PROBE, sampling=sampling)
        reply = Reply()
        answer, connection = await self._client.send("POST", COMPLETIONS, self._body(request), reply.take)
        try:
            async with asyncio.timeout(self._engine_config.start_timeout_s):
                await answer.ended
        except TimeoutError:
            raise EngineError(f"{self._client.url}: the probe request was not answered in time") from None
        finally:
            self._client.release(connection)
        answer.check_status()
        reply.check()
        return reply

    def _body(self, request: GenerationRequest) -> bytes:
        sampling = request.sampling
        return msgspec.json.encode(
            {
                "model": self._model,
                "prompt": request.prompt_token_ids,
                "max_tokens": sampling.max_new_tokens,
                "min_tokens": sampling.min_new_tokens,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "top_k": sampling.top_k,
                "seed": sampling.seed if sampling.temperature > 0 else None,
                "stop_token_ids": sampling.stop_token_ids,
                "ignore_eos": True,  # the model's own end-of-sequence tokens are among the stop ids
                "return_token_ids": True,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
        )

    def _steps(self, reply: Reply, num_prompt_tokens: int) -> tuple[AcceptanceCounters | None, Steps]:
        """Returns the request's counts, and its steps.

        Raises:
            EngineError: the server's counts contradict each other.
        """
        if self._is_plain:
            return None, plain_steps(reply.log.sizes)
        if reply.drafts is None:
            return None, unknown_steps(reply.log.sizes)
        told, length = reply.drafts, draft_length(self._config.spec) or 0
        # A reply of one token, and one whose steps never drafted, have no lists at all.
        accepted, proposed = told.per_step_accepted or [], told.per_step_drafted or []
        if len(accepted) != told.num_spec_steps or sum(accepted) != told.num_accepted_draft_tokens:
            raise EngineError("the server's counts of the request's drafts contradict each other")
        histogram = [*told.acceptance_histogram, *[0] * (length + 1)][: length + 1]
        counters = AcceptanceCounters(
            num_verify_steps=told.num_spec_steps,
            num_accepted=told.num_accepted_draft_tokens,
            num_proposed=told.num_draft_tokens,
            histogram=tuple(histogram),
            per_step_accepted=tuple(accepted),
            per_step_proposed=tuple(proposed),
        )
        # Where less than K + 1 tokens of the context are left, vLLM shortens the drafts, at last to none.
        limit = self.describe().max_seq_len
        room = math.inf if limit is None else limit - num_prompt_tokens - len(reply.log.token_ids)
        always_drafts = not isinstance(self._config.spec, NgramSpec | SuffixSpec) and room > length
        return counters, rebuild(reply.log.sizes, Counts(counters, always_drafts=always_drafts))

    async def _is_gone(self) -> bool:
        """Whether the server can answer no other request. A server whose engine died answers /health with 503."""
        if self._process is not None and self._process.exit_status is not None:
            return True
        try:
            return (await self._client.request("GET", "/health", timeout_s=10)).status != 200
        except EngineError:
            return True


def command_line(arguments: Mapping[str, Any]) -> list[str]:
    """Returns the arguments of AsyncEngineArgs as vLLM's command line has them."""
    words: list[str] = []
    for name, value in arguments.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", json.dumps(value) if isinstance(value, dict | list) else str(value)]
    return words


def _key(variable: str | None) -> str | None:
    """Returns the server's key, which from now on is redacted wherever it appears.

    Raises:
        ConfigError: the variable is not set.
    """
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        raise ConfigError(f"engine.api_key_env={variable}: there is no such environment variable; set it to the key")
    known().add([key])
    return key


def _totals(after: Metrics, before: Metrics, length: int) -> AcceptanceCounters:
    """Returns what the counters grew by."""
    steps = difference(after, before, f"{COUNTERS}_drafts_total") or 0
    name = f"{COUNTERS}_accepted_tokens_per_pos_total"
    now, then = after.by_label(name, "position"), before.by_label(name, "position")
    at_least = [steps, *(now.get(str(n), 0) - then.get(str(n), 0) for n in range(length)), 0]
    return AcceptanceCounters(
        num_verify_steps=steps,
        num_accepted=difference(after, before, f"{COUNTERS}_accepted_tokens_total") or 0,
        num_proposed=difference(after, before, f"{COUNTERS}_draft_tokens_total") or 0,
        num_decode_steps=difference(after, before, "vllm:inter_token_latency_seconds_count"),
        histogram=tuple(one - next_one for one, next_one in itertools.pairwise(at_least)),
    )
