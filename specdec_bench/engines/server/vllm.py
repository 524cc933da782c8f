"""vLLM behind its OpenAI-compatible server, started by the run or running already.

Requests are token ids to /v1/completions, whose stream gives token ids back. The last event has the request's drafts
step by step (`--per-request-spec-decode-metrics detailed`, since 0.29). Totals come from /metrics.
"""

import asyncio
import itertools
import json
import os
import secrets
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from specdec_bench.archive.redact import known
from specdec_bench.config.checkpoints import resolve
from specdec_bench.config.schema.engine import VLLMServerEngine
from specdec_bench.config.schema.experiment import ExperimentConfig, draft_length
from specdec_bench.config.schema.spec import DraftingSpec, NgramSpec, SuffixSpec
from specdec_bench.engines.extra_args import check_extra_args
from specdec_bench.engines.readback import differences
from specdec_bench.engines.server.completion import Reply
from specdec_bench.engines.server.http import Client, ConnectionFailedError, error_message
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
        self._address = ""
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
        if self._url is None:
            self._key = secrets.token_hex(16)
            known().add([self._key])
            self._address = self._launch(self._key)
        else:
            self._key, self._address = _key(self._engine_config.api_key_env), self._url.rstrip("/")
        self._client = Client(self._address, self._key)
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
        extra = self._engine_config.extra_args
        self._arguments |= check_extra_args(
            extra,
            extra,  # the server itself refuses what it does not know
            settings=vllm_arguments.SETTINGS,
            fixed=vllm_arguments.FIXED,
            engine="vLLM",
            reference="vLLM's command line",
        )
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
        max_seq_len, claimed = await self._find_model()
        resolved: Mapping[str, Any] = {}
        answer = await self._client.request("GET", "/server_info?config_format=json")
        if answer.status == 200:
            told = answer.json()
            resolved = _plain_dtypes(told.get("vllm_config", {})) if isinstance(told, dict) else {}
        if not resolved:
            claimed += ["model.dtype", "engine.enable_prefix_caching", "engine.tensor_parallel_size"]
        found = differences(vllm_arguments.asked_and_resolved(self._arguments, resolved))
        if self._url is not None and found:
            first = found[0]
            raise ConfigError(
                f"{first.name}={first.asked}: the server at {self._url} runs with {first.got}; set it to that, or "
                "start another server"
            )
        drafting = resolved.get("speculative_config") or {}
        notes = await self._probe(claimed, drafting)
        if not self._is_plain and "method" in drafting:
            vllm_arguments.check_resolved_method(self._config.spec.name, drafting["method"])
        engine = self._engine_config
        num_workers = engine.tensor_parallel_size * engine.pipeline_parallel_size * engine.data_parallel_size
        is_cpu = (resolved.get("device_config") or {}).get("device") == "cpu"
        synthetic = vllm_arguments.synthetic_stamp(engine)
        if synthetic is None and drafting.get("rejection_sample_method") == "synthetic":
            synthetic = "the server accepts drafts at random"
        self._description = EngineDescription(
            arguments=self._arguments if self._url is None else {"url": self._url},
            resolved={"vllm": await self._release(), **resolved},
            max_seq_len=max_seq_len,
            num_accelerators=0 if is_cpu else num_workers,
            reproducible=False,
            synthetic=synthetic,
            differences=found,
            claimed=tuple(claimed),
            notes=tuple(notes),
        )

    async def _find_model(self) -> tuple[int | None, list[str]]:
        """Finds the model's name at the server. Returns its context length, and what the server does not tell."""
        answer = await self._client.request("GET", "/v1/models")
        if answer.status == 401:
            raise ConfigError(
                f"engine.url={self._url}: the server wants a key; name its variable in engine.api_key_env"
            )
        told = answer.json() if answer.status == 200 else None
        models = told.get("data") if isinstance(told, dict) else None
        if not isinstance(models, list) or not all(isinstance(model, dict) and "id" in model for model in models):
            raise EngineError(f"{self._address}: does not answer /v1/models as vLLM's server does")
        if self._process is not None:
            models = [model for model in models if model["id"] == self._model]
            if not models:
                raise EngineError(f"another server than the one that was started answers at {self._address}")
        path = self._config.model.path
        wanted = {path, resolve(path)}
        same = [model for model in models if {model["id"], model.get("root")} & wanted]
        claimed: list[str] = []
        if self._process is None and not same:
            last = Path(path).name.lower()
            same = [
                m for m in models if last in (Path(str(m["id"])).name.lower(), Path(str(m.get("root"))).name.lower())
            ]
            claimed.append("model.path")
        same = same or (models if self._process is not None else [])
        if not same:
            served = ", ".join(str(model.get("root") or model["id"]) for model in models)
            raise ConfigError(f"model.path={path}: the server at {self._url} serves {served}; choose that model")
        model = same[0]
        self._model = str(model["id"])
        length, asked = model.get("max_model_len"), self._config.model.max_seq_len
        if asked is not None and length is not None and asked != length:
            raise ConfigError(f"model.max_seq_len={asked}: the server's is {length}; set it to that")
        return length, claimed

    async def _probe(self, claimed: list[str], drafting: Mapping[str, Any]) -> list[str]:
        """Sends one request. Returns notes on what the server lacks.

        Raises:
            ConfigError: token ids do not come back, or the server drafts otherwise than the experiment says.
        """
        sampling = RequestSampling(max_new_tokens=4)
        request = GenerationRequest(request_id="probe", prompt_token_ids=PROBE, sampling=sampling)
        reply = await self._send(request)
        self._before = await self._read_metrics()
        counts_drafts = self._before.total("vllm:spec_decode_num_drafts_total") is not None
        drafts, length = reply.drafts, draft_length(self._config.spec)
        if self._is_plain:
            if drafts is not None or counts_drafts or drafting:
                raise ConfigError(f"spec=none: the server at {self._address} drafts; start one without speculation")
            return []
        told = drafts.num_spec_tokens if drafts is not None else drafting.get("num_speculative_tokens")
        if told is not None and told != length:
            raise ConfigError(
                f"spec.draft_length={length}: the server drafts {told} tokens; set spec.draft_length={told}"
            )
        if told is None:
            claimed.append("spec.draft_length")
        if "method" not in drafting:
            claimed.append("spec")
        if drafts is None and not counts_drafts:
            raise ConfigError(f"spec={self._config.spec.name}: the server at {self._address} does not draft")
        if drafts is None or (drafts.per_step_accepted is None and drafts.num_spec_steps):
            return [
                "the server counts drafts in total only; start it with --per-request-spec-decode-metrics detailed "
                "(vLLM 0.29 or later) for the counts of each request"
            ]
        return []

    async def _release(self) -> str | None:
        answer = await self._client.request("GET", "/version")
        told = answer.json() if answer.status == 200 else None
        return told.get("version") if isinstance(told, dict) else None

    async def reset(self) -> None:
        """Clears the prefix cache, where the server lets itself be told to, and counts from here."""
        if isinstance(self._config.spec, SuffixSpec) and self._process is not None:
            await self.stop()  # vLLM cannot empty its suffix tree of earlier responses
            await self.start()
            return
        await self._client.request("POST", "/reset_prefix_cache", {})
        self._before = await self._read_metrics()

    async def _read_metrics(self) -> Metrics:
        answer = await self._client.request("GET", "/metrics")
        if answer.status != 200:
            raise EngineError(f"{self._address}/metrics: HTTP {answer.status}: {error_message(answer.body)}")
        return Metrics(answer.body.decode("utf-8", "replace"))

    def counters(self) -> AcceptanceCounters | None:
        """Returns the server's counts since the last reset; None for plain decoding, or where it does not answer.

        Called when no request is in flight. The counters lag behind the answers by a moment, so they are read until
        they stand still.
        """
        if self._is_plain or self._before is None:
            return None
        deadline_s, last = time.monotonic() + SETTLING_S, None
        while True:
            try:
                after = Metrics(self._get("/metrics"))
            except (OSError, ValueError):
                return None
            totals = _totals(after, self._before, draft_length(self._config.spec) or 0)
            if totals == last or time.monotonic() > deadline_s:
                return totals
            last = totals
            time.sleep(0.5)

    def _get(self, path: str) -> str:
        headers = {} if self._key is None else {"authorization": f"Bearer {self._key}"}
        with urllib.request.urlopen(
            urllib.request.Request(self._address + path, headers=headers), timeout=10
        ) as answer:
            text: str = answer.read().decode("utf-8", "replace")
            return text

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
            answer, connection = await self._client.send("POST", "/v1/completions", self._body(request), reply.take)
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
            drafts, steps = self._steps(reply)
        except EngineError as error:
            if len(reply.log.sizes) > reply.log.num_passed_on:
                yield reply.log.new()
            if await self._is_gone():
                raise EngineDiedError(f"the server at {self._address} is gone: {error}") from None
            raise
        made = RequestMade(num_prompt_tokens=reply.num_prompt_tokens, server_times=reply.times)
        counters = None
        if drafts is not None:
            counters = msgspec.structs.replace(drafts, num_decode_steps=steps.num_decode_steps)
        yield reply.log.whole(steps, reason, counters, made)

    async def _send(self, request: GenerationRequest) -> Reply:
        """Sends a request outside the measurement and returns its whole reply."""
        reply = Reply()
        answer, connection = await self._client.send("POST", "/v1/completions", self._body(request), reply.take)
        try:
            async with asyncio.timeout(self._engine_config.start_timeout_s):
                await answer.ended
        except TimeoutError:
            raise EngineError(f"{self._address}: the probe request was not answered in time") from None
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

    def _steps(self, reply: Reply) -> tuple[AcceptanceCounters | None, Steps]:
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
        sometimes = isinstance(self._config.spec, NgramSpec | SuffixSpec)
        return counters, rebuild(reply.log.sizes, Counts(counters, always_drafts=not sometimes))

    async def _is_gone(self) -> bool:
        """Whether the server can answer no other request. A server whose engine died answers /health with 503."""
        if self._process is not None and self._process.exit_status is not None:
            return True
        try:
            return (await self._client.request("GET", "/health", timeout_s=10)).status != 200
        except ConnectionFailedError:
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


def _plain_dtypes(value: Any) -> Any:
    """Returns the server's configuration with torch's dtypes by their bare names."""
    if isinstance(value, dict):
        return {name: _plain_dtypes(item) for name, item in value.items()}
    return value.removeprefix("torch.") if isinstance(value, str) else value


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
    prefix = "vllm:spec_decode_num"
    steps = difference(after, before, f"{prefix}_drafts_total") or 0
    name = f"{prefix}_accepted_tokens_per_pos_total"
    now, then = after.by_label(name, "position"), before.by_label(name, "position")
    at_least = [steps, *(now.get(str(n), 0) - then.get(str(n), 0) for n in range(length)), 0]
    return AcceptanceCounters(
        num_verify_steps=steps,
        num_accepted=difference(after, before, f"{prefix}_accepted_tokens_total") or 0,
        num_proposed=difference(after, before, f"{prefix}_draft_tokens_total") or 0,
        num_decode_steps=difference(after, before, "vllm:inter_token_latency_seconds_count"),
        histogram=tuple(one - next_one for one, next_one in itertools.pairwise(at_least)),
    )
