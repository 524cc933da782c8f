"""vLLM behind its OpenAI-compatible server.

Requests are token ids to /v1/completions, whose stream gives token ids back. The last event has the request's drafts
step by step (`--per-request-spec-decode-metrics detailed`, since 0.29). Totals come from /metrics.
"""

import asyncio
import itertools
import json
import math
import operator
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from specdec_bench.config.schema.engine import VLLMServerEngine
from specdec_bench.config.schema.experiment import ExperimentConfig, draft_length
from specdec_bench.config.schema.spec import CustomClassSpec
from specdec_bench.engines.server import vllm_identity
from specdec_bench.engines.server.adapter import HOST, OWN_ARGUMENTS, Launch, ServerAdapter
from specdec_bench.engines.server.completion import CompletionReply, Drafts
from specdec_bench.engines.server.identity import find_model
from specdec_bench.engines.server.prometheus import Metrics, difference
from specdec_bench.engines.server.steps import Counts, Steps, plain_steps, rebuild, unknown_steps
from specdec_bench.engines.vllm import arguments as vllm_arguments
from specdec_bench.engines.vllm.release import server_arguments
from specdec_bench.errors import EngineError
from specdec_bench.records.manifest import EngineDescription
from specdec_bench.records.request import AcceptanceCounters, GenerationRequest, RequestSampling

IN_PROCESS_ONLY = ("skip_tokenizer_init", "disable_log_stats")
"""Arguments of engine=vllm that its server does not need."""
LATER_ARGUMENTS = (*vllm_arguments.OPTIONAL, "enable_per_request_metrics")
"""Arguments that only later releases have. Without the last there are no times of the server's own."""
LEAST_TEMPERATURE = 0.01
"""vLLM raises lower ones to it. Source: vllm/sampling_params.py, SamplingParams.__post_init__."""
COUNTERS = "vllm:spec_decode_num"
"""What the names of the server's counters of drafts begin with."""


def create(config: ExperimentConfig) -> "VLLMServer":
    """Returns the adapter, not yet started."""
    return VLLMServer(config)


class VLLMServer(ServerAdapter[CompletionReply]):
    """One server of vLLM's."""

    TITLE = "vLLM's server"
    ROUTE = "/v1/completions"

    def __init__(self, config: ExperimentConfig) -> None:
        super().__init__(config)
        assert isinstance(config.engine, VLLMServerEngine)
        self._engine_config = config.engine
        self._lacks: frozenset[str] = frozenset()
        """The `LATER_ARGUMENTS` that the installed release does not have."""
        self._arguments = {
            name: value
            for name, value in vllm_arguments.engine_arguments(config).items()
            if name not in IN_PROCESS_ONLY
        }

    async def _prepare(self) -> None:
        extra = self._engine_config.extra_args
        rules = replace(vllm_arguments.EXTRA_ARGUMENTS, settings={**vllm_arguments.SETTINGS, **OWN_ARGUMENTS})
        self._arguments |= rules.check(extra, known=extra)  # the server itself refuses what it does not know
        if self._url is None:
            known = await asyncio.to_thread(server_arguments)
            self._lacks = frozenset(name for name in LATER_ARGUMENTS if known is not None and name not in known)
            self._arguments = {name: value for name, value in self._arguments.items() if name not in self._lacks}
            drafting = self._arguments.get("speculative_config", {})
            is_cpu = vllm_arguments.is_cpu_build()
            vllm_arguments.check_device(self._config.spec.name, is_cpu=is_cpu)
            vllm_arguments.check_acceptance_of_drafts(drafting, is_cpu=is_cpu, runner=None)

    def _launch(self, port: int, key: str) -> Launch:
        command = [
            *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
            *("--host", HOST, "--port", str(port), "--served-model-name", self._served_as),
            *([] if "enable_per_request_metrics" in self._lacks else ["--enable-per-request-metrics"]),
            "--disable-uvicorn-access-log",
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
        if isinstance(self._config.spec, CustomClassSpec):  # its file may lie in the working folder
            python_path = [str(Path.cwd()), *filter(None, [os.environ.get("PYTHONPATH")])]
            environment["PYTHONPATH"] = os.pathsep.join(python_path)
        return Launch(command, environment)

    async def _identify(self) -> EngineDescription:
        client, config = self._client, self._config
        started_as = None if self._process is None else self._served_as
        model = await find_model(client, config.model, started_as)
        self._served_as = model.name
        resolved = await vllm_identity.read_configuration(client)
        release = await vllm_identity.read_release(client)
        description = vllm_identity.describe(config, self._arguments, model, resolved, release)
        probe = await self._probe()
        self._before = await self._read_metrics(client)
        has_totals = self._before.total(f"{COUNTERS}_drafts_total") is not None
        claimed, notes = vllm_identity.check_drafting(config, probe.drafts, resolved, client.url, has_totals=has_totals)
        return msgspec.structs.replace(description, claimed=(*description.claimed, *claimed), notes=notes)

    async def reset(self) -> None:
        """Clears the prefix cache, where the server lets itself be told to, and counts from here."""
        if vllm_arguments.remembers(self._config.spec) and self._process is not None:
            await self.stop()
            await self.start()
            return
        await super().reset()

    async def _empty_caches(self) -> None:
        answer = await self._client.request("POST", "/reset_prefix_cache", {})
        if self._process is not None and answer.status != 200:
            raise EngineError(f"the server's prefix cache cannot be emptied: HTTP {answer.status}")

    def read_back(self, sampling: RequestSampling) -> dict[str, Any]:
        """Returns the sampling as vLLM takes it from a request's body."""
        made = msgspec.structs.asdict(sampling)
        if 0 < sampling.temperature < LEAST_TEMPERATURE:
            made["temperature"] = LEAST_TEMPERATURE
        return made

    def _new_reply(self) -> CompletionReply:
        return CompletionReply()

    def _body(self, request: GenerationRequest) -> bytes:
        sampling = request.sampling
        return msgspec.json.encode(
            {
                "model": self._served_as,
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

    def _count(self, reply: CompletionReply, num_prompt_tokens: int) -> tuple[AcceptanceCounters | None, Steps]:
        if self._is_plain:
            return None, plain_steps(reply.log.sizes)
        if reply.drafts is None:
            return None, unknown_steps(reply.log.sizes)
        told, length = reply.drafts, draft_length(self._config.spec) or 0
        accepted, proposed = told.per_step_accepted, told.per_step_drafted
        # The level summary has no lists. Nor have a reply of one token and one whose steps never drafted.
        if told.num_spec_steps == 0 or (accepted, proposed) != (None, None):
            accepted, proposed = accepted or [], proposed or []
        histogram = [*told.acceptance_histogram, *[0] * (length + 1)][: length + 1]
        if not _are_consistent(told, histogram, accepted, proposed):
            raise EngineError("the server's counts of the request's drafts contradict each other")
        counters = AcceptanceCounters(
            num_verify_steps=told.num_spec_steps,
            num_accepted=told.num_accepted_draft_tokens,
            num_proposed=told.num_draft_tokens,
            histogram=tuple(histogram),
            per_step_accepted=None if accepted is None else tuple(accepted),
            per_step_proposed=None if proposed is None else tuple(proposed),
        )
        # Where less than K + 1 tokens of the context are left, vLLM shortens the drafts, at last to none.
        limit = self.describe().max_seq_len
        room = math.inf if limit is None else limit - num_prompt_tokens - len(reply.log.token_ids)
        always_drafts = room > length and vllm_arguments.always_drafts(self._config.spec)
        are_all_full = always_drafts and told.num_draft_tokens == length * told.num_spec_steps
        counts = Counts(counters, always_drafts=always_drafts, proposed_per_step=length if are_all_full else None)
        return counters, rebuild(reply.log.sizes, counts)

    def _totals(self, after: Metrics, before: Metrics) -> AcceptanceCounters:
        steps = difference(after, before, f"{COUNTERS}_drafts_total") or 0
        name = f"{COUNTERS}_accepted_tokens_per_pos_total"
        now, then = after.by_label(name, "position"), before.by_label(name, "position")
        length = draft_length(self._config.spec) or 0
        at_least = [steps, *(now.get(str(n), 0) - then.get(str(n), 0) for n in range(length)), 0]
        return AcceptanceCounters(
            num_verify_steps=steps,
            num_accepted=difference(after, before, f"{COUNTERS}_accepted_tokens_total") or 0,
            num_proposed=difference(after, before, f"{COUNTERS}_draft_tokens_total") or 0,
            num_decode_steps=difference(after, before, "vllm:inter_token_latency_seconds_count"),
            histogram=tuple(one - next_one for one, next_one in itertools.pairwise(at_least)),
        )


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


def _are_consistent(
    told: Drafts, histogram: Sequence[int], accepted: Sequence[int] | None, proposed: Sequence[int] | None
) -> bool:
    """Whether a request's totals are those of its histogram, of j = 0..K accepted drafts, and of its lists if any."""
    steps, total = told.num_spec_steps, told.num_accepted_draft_tokens
    if (sum(histogram), sum(itertools.starmap(operator.mul, enumerate(histogram)))) != (steps, total):
        return False
    if accepted is None or proposed is None:
        return True
    return (
        len(accepted) == len(proposed) == steps
        and list(histogram) == [accepted.count(number) for number in range(len(histogram))]
        and sum(proposed) == told.num_draft_tokens
        and all(map(operator.le, accepted, proposed))
    )
