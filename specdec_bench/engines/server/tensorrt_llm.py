"""TensorRT-LLM behind its own server, trtllm-serve.

Written from its source; it was not run. Requests are token ids to /v1/completions. The stream tells how many engine
steps gave a request's tokens, and nothing of its drafts. The server tells nothing of its configuration, and has no key.

Source: tensorrt_llm/serve/openai_server.py at 00057725d9a6591f033e44f31c219e2426827bb7, openai_protocol.py at
0076e9390e1ed11515f149eec356f5a03f4a00d8, commands/serve.py at 00209af149e7774406881a37283dce303571eb11.
"""

import asyncio
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from specdec_bench.config.checkpoints import resolve
from specdec_bench.config.schema.engine import TensorRTLLMServerEngine
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.engines.server.adapter import HOST, OWN_ARGUMENTS, Launch, ServerAdapter
from specdec_bench.engines.server.http import Client
from specdec_bench.engines.server.identity import find_model
from specdec_bench.engines.server.process import ServerProcess
from specdec_bench.engines.server.prometheus import Metrics
from specdec_bench.engines.server.steps import Steps
from specdec_bench.engines.server.tensorrt_llm_reply import TensorRTLLMReply
from specdec_bench.engines.tensorrt_llm import arguments as llm_arguments
from specdec_bench.engines.tensorrt_llm.arguments import Release
from specdec_bench.engines.tensorrt_llm.release import read_in_another_process
from specdec_bench.records.manifest import EngineDescription
from specdec_bench.records.request import AcceptanceCounters, GenerationRequest, RequestSampling

IN_PROCESS_ONLY = ("skip_tokenizer_init",)
"""Arguments that the server cannot have: it asks its tokenizer for the size of the vocabulary."""
DECODING_TYPES: Mapping[str, str] = {
    "NGramDecodingConfig": "NGram",
    "DraftTargetDecodingConfig": "Draft_Target",
    "PARDDecodingConfig": "PARD",
    "Eagle3DecodingConfig": "Eagle3",
    "EagleDecodingConfig": "Eagle",
    "MTPDecodingConfig": "MTP",
}
"""The decoding configs' names in a file. Source: tensorrt_llm/llmapi/llm_args.py, `decoding_type`."""


def create(config: ExperimentConfig) -> "TensorRTLLMServer":
    """Returns the adapter, not yet started."""
    return TensorRTLLMServer(config)


class TensorRTLLMServer(ServerAdapter[TensorRTLLMReply]):
    """One server of TensorRT-LLM's."""

    TITLE = "TensorRT-LLM's server"
    ROUTE = "/v1/completions"

    def __init__(self, config: ExperimentConfig) -> None:
        super().__init__(config)
        assert isinstance(config.engine, TensorRTLLMServerEngine)
        self._engine_config = config.engine
        self._release: Release | None = None
        self._arguments: dict[str, Any] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    async def _prepare(self) -> None:
        if self._url is None:
            self._release = await asyncio.to_thread(read_in_another_process, self._engine_config.name)
            self._arguments = self._arguments_for(self._release)

    def _arguments_for(self, release: Release) -> dict[str, Any]:
        """Returns the arguments that the experiment starts this release with."""
        rules = replace(llm_arguments.EXTRA_ARGUMENTS, settings={**llm_arguments.SETTINGS, **OWN_ARGUMENTS})
        extra = rules.check(self._engine_config.extra_args, release.known, release.version)
        tokenizer = self._config.model.tokenizer
        own = {} if tokenizer is None else {"tokenizer": resolve(tokenizer)}  # in process, the engine needs none
        made = llm_arguments.engine_arguments(self._config, release) | own | extra
        return {name: value for name, value in made.items() if name not in IN_PROCESS_ONLY}

    def _launch(
        self,
        port: int,
        key: str,  # noqa: ARG002  (trtllm-serve checks none)
    ) -> Launch:
        self._folder = tempfile.TemporaryDirectory(prefix="specdec-bench-")
        file = Path(self._folder.name) / "arguments.yaml"
        file.write_bytes(msgspec.json.encode(file_arguments(self._arguments)))  # JSON is YAML
        command = [
            *(sys.executable, "-m", "tensorrt_llm.commands.serve", "serve", str(self._arguments["model"])),
            *("--host", HOST, "--port", str(port), "--backend", "pytorch", "--extra_llm_api_options", str(file)),
        ]
        return Launch(command, {})

    async def _wait_until_ready(self, process: ServerProcess) -> None:
        try:
            await super()._wait_until_ready(process)
        finally:
            if self._folder is not None:
                self._folder.cleanup()

    async def _identify(self) -> EngineDescription:
        client, config, engine = self._client, self._config, self._engine_config
        model = await find_model(client, config.model, None)
        self._served_as = model.name
        answer = await client.request("GET", "/version")
        told = answer.json() if answer.status == 200 else None
        version = told.get("version") if isinstance(told, dict) else None
        probe = await self._probe()
        counters, _ = probe.count(is_plain=self._is_plain)
        notes = []
        if not self._is_plain and counters is None:
            notes.append(
                "the server does not tell how many engine steps gave a request's tokens (avg_decoded_tokens_per_iter); "
                "install TensorRT-LLM 1.0 or later: acceptance is an upper bound, from the stream's events"
            )
        is_claimed = self._url is not None
        return EngineDescription(
            arguments={"url": self._url} if is_claimed else dict(self._arguments),
            resolved={"tensorrt_llm": version if self._release is None else self._release.version},
            max_seq_len=config.model.max_seq_len,
            num_accelerators=engine.tensor_parallel_size * engine.pipeline_parallel_size,
            reproducible=False,
            is_elsewhere=is_claimed,
            claimed=self._claims(is_model_claimed=model.is_claimed) if is_claimed else (),
            notes=tuple(notes),
        )

    def _claims(self, *, is_model_claimed: bool) -> tuple[str, ...]:
        """Returns the settings that a server which runs already does not tell: all but the model's name."""
        engine = self._engine_config
        given = (
            *(["model.path"] if is_model_claimed else []),
            *("model.dtype", "model.max_seq_len", "engine.enable_prefix_caching", "stream_interval=1"),
            *(["engine.max_num_seqs"] if engine.max_num_seqs is not None else []),
        )
        return (*given, "spec", *(() if self._is_plain else ("spec.draft_length", "spec.draft.path")))

    async def _empty_caches(self) -> None:
        """Does nothing: the server has no route for it, and keeps no earlier prompts unless it is told to."""

    async def _read_metrics(self, client: Client) -> Metrics:  # noqa: ARG002
        """Returns nothing: /metrics has the latest steps of the engine, each of them once, and no counters."""
        return Metrics("")

    def read_back(self, sampling: RequestSampling) -> dict[str, Any]:
        """Returns the sampling as TensorRT-LLM takes it from a request's body."""
        return msgspec.structs.asdict(sampling)

    def _new_reply(self) -> TensorRTLLMReply:
        return TensorRTLLMReply()

    def _body(self, request: GenerationRequest) -> bytes:
        sampling = request.sampling
        stops = list(sampling.stop_token_ids)
        chosen: dict[str, Any] = {"top_k": 1}
        if sampling.temperature > 0:
            chosen = {
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "top_k": sampling.top_k,
                "seed": sampling.seed,
            }
        return msgspec.json.encode(
            {
                "model": self._served_as,
                "prompt": request.prompt_token_ids,
                "max_tokens": sampling.max_new_tokens,
                **chosen,
                "ignore_eos": not stops,  # switches off every stop, not only the end token
                "stop_token_ids": stops,
                "include_stop_str_in_output": True,  # otherwise a stop is cut from the output
                "detokenize": False,  # token ids come in place of text
                "stream": True,
                "stream_options": {"include_usage": True},
            }
        )

    def _count(
        self,
        reply: TensorRTLLMReply,
        num_prompt_tokens: int,  # noqa: ARG002  (only vLLM shortens drafts near the context's end)
    ) -> tuple[AcceptanceCounters | None, Steps]:
        return reply.count(is_plain=self._is_plain)

    def _totals(self, after: Metrics, before: Metrics) -> AcceptanceCounters | None:  # noqa: ARG002
        return None


def file_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments as trtllm-serve's file has them: an object is its fields, a method's with its type."""
    made: dict[str, Any] = {}
    for name, value in arguments.items():
        if name == "model":  # on the command line
            continue
        if isinstance(value, Mapping) and (known := next(iter(value.keys() & set(llm_arguments.CLASSES)), None)):
            kind = {"decoding_type": DECODING_TYPES[known]} if known in DECODING_TYPES else {}
            value = {**kind, **value[known]}
        made[name] = value
    return made
