"""Engines: where and how the models run."""

import itertools
import math
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from specdec_bench.config.schema.ranges import at_least, require


@dataclass(kw_only=True)
class EngineConfig:
    """Where and how the target and its draft run. What is set here or in `model` and `spec` needs a new engine."""

    name: str = MISSING
    """The engine's name in the method table; fixed by the chosen YAML."""
    extra_args: dict[str, Any] = field(default_factory=dict)
    """Passed through to the engine; a key that the project sets itself, or the engine lacks, is refused."""
    stall_timeout_s: float | None = 600.0
    """Seconds without a token, while requests are in flight, after which the cell fails; null waits for ever. It does
    not count while the engine starts, and makes no other cell or engine of it."""

    def __post_init__(self) -> None:
        timeout_s = self.stall_timeout_s
        if timeout_s is not None:
            is_time = math.isfinite(timeout_s) and timeout_s > 0
            require(is_time, "engine.stall_timeout_s", timeout_s, "must be above 0; null waits for ever")


@dataclass(kw_only=True)
class TransformersEngine(EngineConfig):
    """transformers' `generate`, one request at a time."""

    name: str = "transformers"
    device: str = "auto"
    """auto (CUDA where there is a GPU), cpu, cuda, or cuda:N."""
    attn_implementation: str | None = None
    """sdpa, eager, flash_attention_2, ...; null leaves it to transformers."""
    num_threads: int | None = None
    """CPU threads of one operation (torch.set_num_threads); null leaves it to torch."""

    def __post_init__(self) -> None:
        EngineConfig.__post_init__(self)
        device, _, index = self.device.partition(":")
        known = self.device in ("auto", "cpu") or (device == "cuda" and (index.isdigit() or self.device == "cuda"))
        require(known, "engine.device", self.device, "use auto, cpu, cuda or cuda:N")
        at_least(1, engine__num_threads=self.num_threads)


@dataclass(kw_only=True)
class SyntheticEngine(EngineConfig):
    """An engine of known truth that runs no model: for dry runs, tests and benchmarks of the harness itself."""

    name: str = "synthetic"
    acceptance_rates: list[float] = field(default_factory=lambda: [0.8, 0.6, 0.4])
    """Conditional acceptance at each draft position (position i given that i-1 was accepted); the last
    value holds for all later positions."""
    ttft_ms: float = 5.0
    """Time from a request to its first token."""
    step_time_ms: float = 1.0
    """Time of every decode step."""
    stop_probability: float = 0.0
    """Chance that a decode step's last token is an end-of-sequence token."""
    vocab_size: int = 256
    fail_every: int | None = None
    """Every n-th request of the run fails after its first decode step."""
    crash_after: int | None = None
    """The process kills itself (SIGKILL) in the middle of the request after this many were sent."""
    hang_after: int | None = None
    """Every request after this many were sent stops after its first decode step and never ends."""

    def __post_init__(self) -> None:
        EngineConfig.__post_init__(self)
        require(len(self.acceptance_rates) > 0, "engine.acceptance_rates", self.acceptance_rates, "give at least one")
        for rate in self.acceptance_rates:
            require(0 <= rate <= 1, "engine.acceptance_rates", rate, "each must lie in [0, 1]")
        require(0 <= self.stop_probability <= 1, "engine.stop_probability", self.stop_probability, "must lie in [0, 1]")
        for key, value in (("ttft_ms", self.ttft_ms), ("step_time_ms", self.step_time_ms)):
            require(math.isfinite(value) and value >= 0, f"engine.{key}", value, "must be 0 or more")
        at_least(2, engine__vocab_size=self.vocab_size)
        at_least(1, engine__fail_every=self.fail_every)
        at_least(0, engine__crash_after=self.crash_after, engine__hang_after=self.hang_after)


@dataclass(kw_only=True)
class VLLMEngine(EngineConfig):
    """vLLM's AsyncLLM, in process; whatever release is installed. A null leaves the choice to vLLM."""

    name: str = "vllm"
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    data_parallel_size: int = 1
    enable_expert_parallel: bool = False
    max_num_seqs: int | None = None
    """Requests in one batch; null takes the largest concurrency of the sweep (of the run, if it is none), so that
    every cell runs on the same engine, baseline included."""
    max_num_batched_tokens: int | None = None
    enable_prefix_caching: bool = False
    enforce_eager: bool = False
    """No CUDA graphs."""
    async_scheduling: bool | None = None
    gpu_memory_utilization: float | None = None
    cpu_kv_cache_gib: int = 1
    """GiB of the KV cache on a CPU, where VLLM_CPU_KVCACHE_SPACE is not set."""
    synthetic_acceptance_length: float | None = None
    """Accepts drafts at random so that 1 + accepted / verify steps is this; stamped on every figure."""
    synthetic_acceptance_rates: list[float] | None = None
    """The same, as the joint acceptance of each draft position."""

    def __post_init__(self) -> None:
        EngineConfig.__post_init__(self)
        at_least(
            1,
            engine__tensor_parallel_size=self.tensor_parallel_size,
            engine__pipeline_parallel_size=self.pipeline_parallel_size,
            engine__data_parallel_size=self.data_parallel_size,
            engine__max_num_seqs=self.max_num_seqs,
            engine__max_num_batched_tokens=self.max_num_batched_tokens,
            engine__cpu_kv_cache_gib=self.cpu_kv_cache_gib,
        )
        share, length, rates = (
            self.gpu_memory_utilization,
            self.synthetic_acceptance_length,
            self.synthetic_acceptance_rates,
        )
        if share is not None:
            require(0 < share <= 1, "engine.gpu_memory_utilization", share, "must lie in (0, 1]")
        if length is not None:
            key = "engine.synthetic_acceptance_length"
            require(math.isfinite(length) and length >= 1, key, length, "must lie in [1, spec.draft_length + 1]")
            require(rates is None, key, length, "leave engine.synthetic_acceptance_rates null beside it")
        if rates is not None:
            falling = all(1 >= before >= after >= 0 for before, after in itertools.pairwise([1.0, *rates]))
            require(falling, "engine.synthetic_acceptance_rates", rates, "must lie in [0, 1] and never rise")


@dataclass(kw_only=True)
class SGLangEngine(EngineConfig):
    """SGLang's Engine, in process; whatever release is installed. A null leaves the choice to SGLang."""

    name: str = "sglang"
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    data_parallel_size: int = 1
    expert_parallel_size: int = 1
    max_num_seqs: int | None = None
    """Requests in one batch (max_running_requests) and the largest CUDA graph; null takes the largest concurrency
    of the sweep (of the run, if it is none), so that every cell runs on the same engine, baseline included."""
    enable_prefix_caching: bool = False
    """The radix cache."""
    enforce_eager: bool = False
    """No CUDA graphs."""
    gpu_memory_utilization: float | None = None
    """Share of the GPU's memory for weights and KV cache (mem_fraction_static)."""
    attention_backend: str | None = None
    """triton, flashinfer, fa3, ..."""
    sampling_backend: str | None = None
    """flashinfer, pytorch."""

    def __post_init__(self) -> None:
        EngineConfig.__post_init__(self)
        at_least(
            1,
            engine__tensor_parallel_size=self.tensor_parallel_size,
            engine__pipeline_parallel_size=self.pipeline_parallel_size,
            engine__data_parallel_size=self.data_parallel_size,
            engine__expert_parallel_size=self.expert_parallel_size,
            engine__max_num_seqs=self.max_num_seqs,
        )
        share = self.gpu_memory_utilization
        if share is not None:
            require(0 < share < 1, "engine.gpu_memory_utilization", share, "must lie in (0, 1)")


@dataclass(kw_only=True)
class LLMAPIEngine(EngineConfig):
    """What the two engines of TensorRT-LLM's LLM API share. A null leaves the choice to TensorRT-LLM."""

    max_num_seqs: int | None = None
    """Requests in one batch (max_batch_size) and the largest CUDA graph; null takes the largest concurrency of the
    sweep (of the run, if it is none), so that every cell runs on the same engine, baseline included."""
    max_num_batched_tokens: int | None = None
    """Tokens in one batch (max_num_tokens)."""
    enable_prefix_caching: bool = False
    """Reuse of KV cache blocks."""
    gpu_memory_utilization: float | None = None
    """Share of the memory that is free once the weights are loaded, for the KV cache."""
    attention_backend: str | None = None
    disable_overlap_scheduler: bool | None = None
    """null switches the overlap scheduler off for spec=ngram and spec=draft_model, which do not run with it, and
    leaves it on otherwise; true takes it from every cell alike, the baseline too."""

    def __post_init__(self) -> None:
        EngineConfig.__post_init__(self)
        at_least(1, engine__max_num_seqs=self.max_num_seqs, engine__max_num_batched_tokens=self.max_num_batched_tokens)
        share = self.gpu_memory_utilization
        if share is not None:
            require(0 < share < 1, "engine.gpu_memory_utilization", share, "must lie in (0, 1)")


@dataclass(kw_only=True)
class TensorRTLLMEngine(LLMAPIEngine):
    """TensorRT-LLM's LLM API on its PyTorch backend, in process; whatever release is installed."""

    name: str = "tensorrt_llm"
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    expert_parallel_size: int = 1
    enforce_eager: bool = False
    """No CUDA graphs."""
    allow_advanced_sampling: bool = False
    """Lets the methods whose drafter is part of the target's model sample at a temperature above 0. A prototype of
    TensorRT-LLM, and in its later releases only."""

    def __post_init__(self) -> None:
        LLMAPIEngine.__post_init__(self)
        at_least(
            1,
            engine__tensor_parallel_size=self.tensor_parallel_size,
            engine__pipeline_parallel_size=self.pipeline_parallel_size,
            engine__expert_parallel_size=self.expert_parallel_size,
        )


@dataclass(kw_only=True)
class AutoDeployEngine(LLMAPIEngine):
    """TensorRT-LLM's AutoDeploy, in process: the model is taken as transformers has it, compiled and sharded."""

    name: str = "auto_deploy"
    world_size: int = 1
    """GPUs; AutoDeploy shards over them by itself."""

    def __post_init__(self) -> None:
        LLMAPIEngine.__post_init__(self)
        at_least(1, engine__world_size=self.world_size)
