"""SGLang behind its own server.

Requests are token ids to /generate, whose stream gives token ids back. The last event has the request's counts: verify
steps, accepted drafts, and a histogram. Steps are rebuilt from the events. /metrics counts verify steps in total, and
no accepted drafts.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from specdec_bench.config.schema.engine import SGLangServerEngine
from specdec_bench.config.schema.experiment import ExperimentConfig, draft_length
from specdec_bench.engines.server import sglang_identity
from specdec_bench.engines.server.adapter import HOST, OWN_ARGUMENTS, Launch, ServerAdapter
from specdec_bench.engines.server.generate import GenerateReply
from specdec_bench.engines.server.http import Client, error_message
from specdec_bench.engines.server.identity import find_model
from specdec_bench.engines.server.process import ServerProcess
from specdec_bench.engines.server.prometheus import Metrics, difference
from specdec_bench.engines.server.steps import Counts, Steps, plain_steps, rebuild
from specdec_bench.engines.sglang import arguments as sglang_arguments
from specdec_bench.engines.sglang.release import Release, read_in_another_process
from specdec_bench.engines.sglang.requests import request_counters, sampling_parameters
from specdec_bench.errors import EngineError
from specdec_bench.records.manifest import EngineDescription
from specdec_bench.records.request import AcceptanceCounters, GenerationRequest, RequestSampling

SERVED = {
    "enable_metrics": True,
    "incremental_streaming_output": True,  # an event has its own ids, not all so far
}
"""Arguments that only the server has, left out where the release lacks them."""
LEAST_TEMPERATURE = 1e-6
"""SGLang decodes greedily below it. Source: sglang/srt/sampling/sampling_params.py, _SAMPLING_EPS."""
FLUSH_TIMEOUT_S = 30.0
"""How long emptying the caches waits for requests that were dropped."""
VERIFY_STEPS = "sglang:spec_verify_calls_total"


def create(config: ExperimentConfig) -> "SGLangServer":
    """Returns the adapter, not yet started."""
    return SGLangServer(config)


class SGLangServer(ServerAdapter[GenerateReply]):
    """One server of SGLang's."""

    TITLE = "SGLang's server"
    ROUTE = "/generate"

    def __init__(self, config: ExperimentConfig) -> None:
        super().__init__(config)
        assert isinstance(config.engine, SGLangServerEngine)
        self._engine_config = config.engine
        self._proposed_per_step = sglang_arguments.proposed_per_step(config)
        self._draft_length = draft_length(config.spec) or 0
        self._arguments: dict[str, Any] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    async def _prepare(self) -> None:
        if self._url is None:  # one that runs already tells its release by itself
            name = self._engine_config.name
            self._arguments = self._arguments_for(await asyncio.to_thread(read_in_another_process, name))

    def _arguments_for(self, release: Release) -> dict[str, Any]:
        """Returns the arguments that the experiment starts this release with."""
        served = {name: value for name, value in SERVED.items() if name in release.known}
        rules = replace(
            sglang_arguments.EXTRA_ARGUMENTS,
            settings={**sglang_arguments.SETTINGS, **OWN_ARGUMENTS},
            fixed={**sglang_arguments.FIXED, **SERVED},
        )
        extra = rules.check(self._engine_config.extra_args, release.known, release.version)
        made = sglang_arguments.engine_arguments(self._config, release.known, release.algorithms)
        return {**made, **served, **extra}

    def _launch(self, port: int, key: str) -> Launch:
        # SGLang takes the key as an argument alone. The file keeps it from whoever lists this machine's processes.
        self._folder = tempfile.TemporaryDirectory(prefix="specdec-bench-")  # of this user alone
        file = Path(self._folder.name) / "key.yaml"
        file.write_bytes(msgspec.json.encode({"api-key": key}))  # JSON is YAML
        command = [
            *(sys.executable, "-m", "sglang.launch_server", "--config", str(file)),
            *("--host", HOST, "--port", str(port), "--served-model-name", self._served_as),
            *command_line(self._arguments),
        ]
        return Launch(command, {})

    async def _wait_until_ready(self, process: ServerProcess) -> None:
        try:
            await super()._wait_until_ready(process)
        finally:
            if self._folder is not None:
                self._folder.cleanup()

    async def _identify(self) -> EngineDescription:
        client, config = self._client, self._config
        told = await sglang_identity.read_configuration(client)
        if self._url is not None:
            algorithms = sglang_identity.algorithms_of(config, told)
            release = Release(version=str(told["sglang"]), known=tuple(told), algorithms=algorithms)
            self._arguments = self._arguments_for(release)
        started_as = None if self._process is None else self._served_as
        model = await find_model(client, config.model, started_as, [str(told["model_path"])])
        description = sglang_identity.describe(config, self._arguments, model, told)
        await self._probe()
        notes = list(sglang_arguments.notes(config.spec))
        if (refusal := await self._flush()) is not None:
            notes.append(f"the server's caches cannot be emptied between cells: {refusal}")
        if not told.get("incremental_streaming_output"):
            notes.append(
                "every event of the server repeats all of the reply's tokens, which costs both sides time; start it "
                "with --incremental-streaming-output"
            )
        self._before = await self._read_metrics(client)
        return msgspec.structs.replace(description, notes=tuple(notes))

    async def _empty_caches(self) -> None:
        """Empties the prefix cache and the table of n-grams."""
        refusal = await self._flush()
        if self._process is not None and refusal is not None:
            raise EngineError(f"SGLang did not flush its cache: {refusal}")

    async def _flush(self) -> str | None:
        """Empties the caches, once no request runs. Returns why the server does not; None if it does."""
        deadline_s = time.monotonic() + FLUSH_TIMEOUT_S
        while True:
            answer = await self._client.request("POST", f"/flush_cache?timeout={FLUSH_TIMEOUT_S:g}")
            if answer.status == 200:
                return None
            # Older releases do not wait, and answer 400 while a request runs.
            if answer.status != 400 or time.monotonic() > deadline_s:
                return f"HTTP {answer.status}: {error_message(answer.body)}"
            await asyncio.sleep(0.2)

    async def _read_metrics(self, client: Client) -> Metrics:
        """Reads the counters. There are none without --enable-metrics."""
        if (await client.request("GET", "/metrics")).status == 404:
            return Metrics("")
        return await super()._read_metrics(client)

    def read_back(self, sampling: RequestSampling) -> dict[str, Any]:
        """Returns the sampling as SGLang takes it. SGLang uses its own seed, whatever the request's."""
        made = msgspec.structs.asdict(sampling)
        if sampling.temperature < LEAST_TEMPERATURE:
            made["temperature"] = 0.0
        seed = sglang_arguments.FIXED["random_seed"] if self._url is None else "the server's"
        return {**made, "seed": f"{seed} for all requests"}

    def _new_reply(self) -> GenerateReply:
        return GenerateReply()

    def _body(self, request: GenerationRequest) -> bytes:
        return msgspec.json.encode(
            {
                "input_ids": request.prompt_token_ids,
                "sampling_params": sampling_parameters(request.sampling),
                "stream": True,
            }
        )

    def _count(
        self,
        reply: GenerateReply,
        num_prompt_tokens: int,  # noqa: ARG002  (only vLLM shortens drafts near the context's end)
    ) -> tuple[AcceptanceCounters | None, Steps]:
        sizes = reply.log.sizes
        if self._is_plain:
            return None, plain_steps(sizes)
        num_verify_steps, num_accepted, histogram = reply.meta.spec_verify_ct, reply.num_accepted, reply.histogram
        if sum(sizes) == 1:  # the prefill's token is all; SGLang leaves the counts out
            num_verify_steps, num_accepted = num_verify_steps or 0, num_accepted or 0
        if num_verify_steps is None or num_accepted is None:
            raise EngineError("the server gives no counts of the request's drafts; SGLang does since 0.5.11")
        if histogram is not None and (
            sum(histogram) != num_verify_steps
            or sum(number * steps for number, steps in enumerate(histogram)) != num_accepted
        ):
            raise EngineError("the server's counts of the request's drafts contradict each other")
        counters = request_counters(
            num_verify_steps=num_verify_steps,
            num_accepted=num_accepted,
            histogram=histogram,
            draft_length=self._draft_length,
            proposed_per_step=self._proposed_per_step,
            num_decode_steps=None,
        )
        # Every step after the prefill verifies drafts: where there are none, SGLang fills them up.
        counts = Counts(counters, always_drafts=True, proposed_per_step=self._proposed_per_step)
        return counters, rebuild(sizes, counts)

    def _totals(self, after: Metrics, before: Metrics) -> AcceptanceCounters | None:
        num_verify_steps = difference(after, before, VERIFY_STEPS)
        return (
            None
            if num_verify_steps is None
            else AcceptanceCounters(num_verify_steps=num_verify_steps, num_accepted=None)
        )


def command_line(arguments: Mapping[str, Any]) -> list[str]:
    """Returns the arguments of ServerArgs as SGLang's command line has them. Its switches are off by default."""
    words: list[str] = []
    for name, value in arguments.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words += [flag] if value else []
        elif isinstance(value, list):
            words += [flag, *map(str, value)]
        else:
            words += [flag, json.dumps(value) if isinstance(value, dict) else str(value)]
    return words
