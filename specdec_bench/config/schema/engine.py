"""Engines: where and how the models run."""

import itertools
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

from omegaconf import MISSING

from specdec_bench.config.schema.ranges import (
    ACCEPTANCE_LENGTH,
    CONCURRENCY,
    CONTEXT,
    GPU_LAYERS,
    GPUS,
    MEMORY_GIB,
    MILLISECONDS,
    NTH_REQUEST,
    PROBABILITY,
    PROPER_SHARE,
    SHARE,
    THREADS,
    TIMEOUT_S,
    VOCABULARY,
    Bounded,
    FreeText,
    require,
)
from specdec_bench.config.schema.spec import DraftingSpec, NgramSpec, SpecConfig


@dataclass(kw_only=True)
class EngineConfig(Bounded):
    """Where and how the target and its draft run. What is set here or in `model` and `spec` needs a new engine."""

    GROUP: ClassVar[str] = "engine"

    name: str = MISSING
    """The engine's name in the method table; fixed by the chosen YAML."""
    extra_args: Annotated[dict[str, Any], FreeText()] = field(default_factory=dict)
    """Passed through to the engine; a key that the project sets itself, or the engine lacks, is refused."""
    stall_timeout_s: Annotated[float | None, TIMEOUT_S] = 600.0
    """Seconds without a token, while requests are in flight, after which the cell fails; null waits for ever. It does
    not count while the engine starts, and makes no other cell or engine of it."""

    @property
    def is_attached(self) -> bool:
        """Whether it runs already, started by somebody else."""
        return False

    def check_spec(self, spec: SpecConfig) -> None:
        """Refuses settings of the engine that do not go with the method.

        Raises:
            ValueError: naming the setting and what to do.
        """


@dataclass(kw_only=True)
class TransformersEngine(EngineConfig):
    """transformers' `generate`, one request at a time."""

    name: str = "transformers"
    device: str = "auto"
    """auto (CUDA where there is a GPU), cpu, cuda, or cuda:N."""
    attn_implementation: str | None = None
    """sdpa, eager, flash_attention_2, ...; null leaves it to transformers."""
    num_threads: Annotated[int | None, THREADS] = None
    """CPU threads of one operation (torch.set_num_threads); null leaves it to torch."""

    def __post_init__(self) -> None:
        Bounded.__post_init__(self)
        device, _, index = self.device.partition(":")
        known = self.device in ("auto", "cpu") or (device == "cuda" and (index.isdigit() or self.device == "cuda"))
        require(known, "engine.device", self.device, "use auto, cpu, cuda or cuda:N")


@dataclass(kw_only=True)
class SyntheticEngine(EngineConfig):
    """An engine of known truth that runs no model: for dry runs, tests and benchmarks of the harness itself."""

    name: str = "synthetic"
    acceptance_rates: Annotated[list[float], PROBABILITY] = field(default_factory=lambda: [0.8, 0.6, 0.4])
    """Conditional acceptance at each draft position (position i given that i-1 was accepted); the last
    value holds for all later positions."""
    ttft_ms: Annotated[float, MILLISECONDS] = 5.0
    """Time from a request to its first token."""
    step_time_ms: Annotated[float, MILLISECONDS] = 1.0
    """Time of every decode step."""
    stop_probability: Annotated[float, PROBABILITY] = 0.0
    """Chance that a decode step's last token is an end-of-sequence token."""
    vocab_size: Annotated[int, VOCABULARY] = 256
    fail_every: Annotated[int | None, NTH_REQUEST] = None
    """Every n-th request of the run fails after its first decode step."""
    crash_after: Annotated[int | None, NTH_REQUEST] = None
    """The process kills itself (SIGKILL) in the middle of the request after this many were sent."""
    hang_after: Annotated[int | None, NTH_REQUEST] = None
    """Every request after this many were sent stops after its first decode step and never ends."""

    def __post_init__(self) -> None:
        Bounded.__post_init__(self)
        require(len(self.acceptance_rates) > 0, "engine.acceptance_rates", self.acceptance_rates, "give at least one")


@dataclass(kw_only=True)
class VLLMEngine(EngineConfig):
    """vLLM's AsyncLLM, in process; whatever release is installed. A null leaves the choice to vLLM."""

    name: str = "vllm"
    tensor_parallel_size: Annotated[int, GPUS] = 1
    pipeline_parallel_size: Annotated[int, GPUS] = 1
    data_parallel_size: Annotated[int, GPUS] = 1
    enable_expert_parallel: bool = False
    max_num_seqs: Annotated[int | None, CONCURRENCY] = None
    """Requests in one batch; null takes the largest concurrency of the sweep (of the run, if it is none), so that
    every cell runs on the same engine, baseline included; no more than there are conversations. An open load has no
    concurrency to take."""
    max_num_batched_tokens: Annotated[int | None, CONTEXT] = None
    enable_prefix_caching: bool = False
    enforce_eager: bool = False
    """No CUDA graphs."""
    async_scheduling: bool | None = None
    gpu_memory_utilization: Annotated[float | None, SHARE] = None
    cpu_kv_cache_gib: Annotated[int, MEMORY_GIB] = 1
    """GiB of the KV cache on a CPU, where VLLM_CPU_KVCACHE_SPACE is not set."""
    synthetic_acceptance_length: Annotated[float | None, ACCEPTANCE_LENGTH] = None
    """Accepts drafts at random so that 1 + accepted / verify steps is this; stamped on every metric."""
    synthetic_acceptance_rates: Annotated[list[float] | None, PROBABILITY] = None
    """The same, as the joint acceptance of each draft position."""

    def __post_init__(self) -> None:
        Bounded.__post_init__(self)
        length, rates = self.synthetic_acceptance_length, self.synthetic_acceptance_rates
        if length is not None:
            key = "engine.synthetic_acceptance_length"
            require(rates is None, key, length, "leave engine.synthetic_acceptance_rates null beside it")
        if rates is not None:
            falling = all(1 >= before >= after >= 0 for before, after in itertools.pairwise([1.0, *rates]))
            require(falling, "engine.synthetic_acceptance_rates", rates, "must lie in [0, 1] and never rise")

    def check_spec(self, spec: SpecConfig) -> None:
        """Refuses synthetic acceptance without drafts or beyond what K allows, and a K that cannot follow the batch."""
        self._check_batch_sizes(spec)
        length, rates = self.synthetic_acceptance_length, self.synthetic_acceptance_rates
        if length is None and rates is None:
            return
        key = "engine.synthetic_acceptance_length" if rates is None else "engine.synthetic_acceptance_rates"
        drafted = spec.draft_length if isinstance(spec, DraftingSpec) else 0
        require(drafted > 0, key, length or rates, "spec drafts nothing; choose a method that drafts")
        require(length is None or length <= drafted + 1, key, length, f"at most spec.draft_length + 1 = {drafted + 1}")
        fix = f"give one rate for each of spec.draft_length={drafted} positions"
        require(rates is None or len(rates) == drafted, key, rates, fix)

    def _check_batch_sizes(self, spec: SpecConfig) -> None:
        """Refuses a draft length by batch size where vLLM drops it, or drafts of a parallel drafter's own length."""
        key, rows = "spec.draft_length_by_batch_size", getattr(spec, "draft_length_by_batch_size", None)
        if rows is None:
            return
        size, length = self.data_parallel_size, self.synthetic_acceptance_length
        fix = f"vLLM drops it if engine.data_parallel_size={size}; leave one of them at its default"
        require(size == 1, key, rows, fix)
        fix = "vLLM's parallel drafters make drafts of one length; leave it null, or spec.parallel_drafting=false"
        require(not getattr(spec, "parallel_drafting", False), key, rows, fix)
        fix = (
            f"engine.synthetic_acceptance_length={length} is of one draft length; set engine.synthetic_acceptance_rates"
        )
        require(length is None, key, rows, fix)


@dataclass(kw_only=True)
class SGLangEngine(EngineConfig):
    """SGLang's Engine, in process; whatever release is installed. A null leaves the choice to SGLang."""

    name: str = "sglang"
    tensor_parallel_size: Annotated[int, GPUS] = 1
    pipeline_parallel_size: Annotated[int, GPUS] = 1
    data_parallel_size: Annotated[int, GPUS] = 1
    expert_parallel_size: Annotated[int, GPUS] = 1
    max_num_seqs: Annotated[int | None, CONCURRENCY] = None
    """Requests in one batch (max_running_requests) and the largest CUDA graph; null takes the largest concurrency
    of the sweep (of the run, if it is none), so that every cell runs on the same engine, baseline included; no more
    than there are conversations. An open load has no concurrency to take."""
    enable_prefix_caching: bool = False
    """The radix cache."""
    enforce_eager: bool = False
    """No CUDA graphs."""
    gpu_memory_utilization: Annotated[float | None, PROPER_SHARE] = None
    """Share of the GPU's memory for weights and KV cache (mem_fraction_static)."""
    attention_backend: str | None = None
    """triton, flashinfer, fa3, ..."""
    sampling_backend: str | None = None
    """flashinfer, pytorch."""


@dataclass(kw_only=True)
class LLMAPIEngine(EngineConfig):
    """What the two engines of TensorRT-LLM's LLM API share. A null leaves the choice to TensorRT-LLM."""

    max_num_seqs: Annotated[int | None, CONCURRENCY] = None
    """Requests in one batch (max_batch_size) and the largest CUDA graph; null takes the largest concurrency of the
    sweep (of the run, if it is none), so that every cell runs on the same engine, baseline included; no more than there
    are conversations. An open load has no concurrency to take."""
    max_num_batched_tokens: Annotated[int | None, CONTEXT] = None
    """Tokens in one batch (max_num_tokens)."""
    enable_prefix_caching: bool = False
    """Reuse of KV cache blocks."""
    gpu_memory_utilization: Annotated[float | None, PROPER_SHARE] = None
    """Share of the memory that is free once the weights are loaded, for the KV cache."""
    attention_backend: str | None = None
    disable_overlap_scheduler: bool | None = None
    """null switches the overlap scheduler off for spec=ngram and spec=draft_model, which do not run with it, and
    leaves it on otherwise; true takes it from every cell alike, the baseline too."""


@dataclass(kw_only=True)
class TensorRTLLMEngine(LLMAPIEngine):
    """TensorRT-LLM's LLM API on its PyTorch backend, in process; whatever release is installed."""

    name: str = "tensorrt_llm"
    tensor_parallel_size: Annotated[int, GPUS] = 1
    pipeline_parallel_size: Annotated[int, GPUS] = 1
    expert_parallel_size: Annotated[int, GPUS] = 1
    enforce_eager: bool = False
    """No CUDA graphs."""
    allow_advanced_sampling: bool = False
    """Lets the methods whose drafter is part of the target's model sample at a temperature above 0. A prototype of
    TensorRT-LLM, and in its later releases only."""


@dataclass(kw_only=True)
class AutoDeployEngine(LLMAPIEngine):
    """TensorRT-LLM's AutoDeploy, in process: the model is taken as transformers has it, compiled and sharded."""

    name: str = "auto_deploy"
    world_size: Annotated[int, GPUS] = 1
    """GPUs; AutoDeploy shards over them by itself."""


@dataclass(kw_only=True)
class ServerEngine(EngineConfig):
    """What engines behind HTTP share: a server that the run starts, or one that runs already."""

    url: str | None = None
    """A server that runs already, as http://HOST:PORT; null starts one on this machine."""
    baseline_url: str | None = None
    """The server of a sweep's plain cells, if they have one of their own; null takes `url`."""
    api_key_env: str | None = None
    """The environment variable that holds the key of a server that runs already. The key is never archived."""
    start_timeout_s: Annotated[float, TIMEOUT_S] = 600.0
    """Seconds that a server may take to start."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("url", "baseline_url"):
            if (url := getattr(self, name)) is not None:
                _check_url(f"engine.{name}", url)
        if self.baseline_url is not None:
            fix = "give engine.url too, the server that speculates"
            require(self.url is not None, "engine.baseline_url", self.baseline_url, fix)
        if self.api_key_env is not None:
            fix = "is for a server that runs already; give engine.url, or leave it out"
            require(self.url is not None, "engine.api_key_env", self.api_key_env, fix)

    @property
    def is_attached(self) -> bool:
        """Whether it runs already, started by somebody else."""
        return self.url is not None

    def url_for(self, spec: SpecConfig) -> str | None:
        """Returns the address of the server that runs already and serves this method; None if the run starts one."""
        return self.url if isinstance(spec, DraftingSpec) else self.baseline_url or self.url


def _check_url(key: str, url: str) -> None:
    """Refuses what is no address of a server, and credentials in one."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    fix = "give it as http://HOST:PORT or https://HOST"
    require(bool(host) and parts.scheme in ("http", "https") and port != 0, key, url, fix)
    require(
        "@" not in parts.netloc, key, f"{parts.scheme}://...@{host}", "name the key's variable in engine.api_key_env"
    )
    require(not parts.query and not parts.fragment and " " not in url and url.isascii(), key, url, fix)


@dataclass(kw_only=True)
class VLLMServerEngine(ServerEngine, VLLMEngine):
    """vLLM's server. The settings are those of engine=vllm."""

    name: str = "vllm_server"

    def check_spec(self, spec: SpecConfig) -> None:
        """Refuses what engine=vllm refuses."""
        VLLMEngine.check_spec(self, spec)


@dataclass(kw_only=True)
class SGLangServerEngine(ServerEngine, SGLangEngine):
    """SGLang's server. The settings are those of engine=sglang."""

    name: str = "sglang_server"


@dataclass(kw_only=True)
class TensorRTLLMServerEngine(ServerEngine, TensorRTLLMEngine):
    """TensorRT-LLM's server. The settings are those of engine=tensorrt_llm."""

    name: str = "tensorrt_llm_server"


@dataclass(kw_only=True)
class LlamaCppServerEngine(ServerEngine):
    """llama.cpp's server. Checkpoints are folders with config.json, the tokenizer and GGUF files."""

    name: str = "llama_cpp_server"
    binary: str = "llama-server"
    """The program that starts the server: a name on PATH, or a path."""
    gguf_file: str | None = None
    """The target's file within the folder of model.path; null takes the only GGUF file there."""
    draft_gguf_file: str | None = None
    """The draft's file within the folder of spec.draft.path; null takes the only GGUF file there."""
    max_num_seqs: Annotated[int | None, CONCURRENCY] = None
    """Requests in one batch (--parallel), each with room for model.max_seq_len tokens; null takes the largest
    concurrency of the sweep (of the run, if it is none), so that every cell runs on the same engine, baseline included;
    no more than there are conversations. An open load has no concurrency to take."""
    max_num_batched_tokens: Annotated[int | None, CONTEXT] = None
    """Tokens in one batch (--batch-size)."""
    enable_prefix_caching: bool = False
    """Reuse of the KV cache of an earlier request's prompt (cache_prompt)."""
    num_threads: Annotated[int | None, THREADS] = None
    """CPU threads (--threads)."""
    gpu_layers: Annotated[int | None, GPU_LAYERS] = None
    """Layers on the GPU (--gpu-layers); 0 computes on the CPU alone."""

    def check_spec(self, spec: SpecConfig) -> None:
        """Refuses n-grams that llama.cpp's lookup does not draft by."""
        if not isinstance(spec, NgramSpec):
            return
        fix = f"llama.cpp looks up one length only; set spec.ngram_min={spec.ngram_max}, as spec.ngram_max"
        require(spec.ngram_min == spec.ngram_max, "spec.ngram_min", spec.ngram_min, fix)
        fix = f"llama.cpp drafts no fewer tokens than it looks up; set it to spec.ngram_max={spec.ngram_max} or more"
        require(spec.draft_length >= spec.ngram_max, "spec.draft_length", spec.draft_length, fix)


OPTIONS: dict[str, type] = {
    "transformers": TransformersEngine,
    "vllm": VLLMEngine,
    "sglang": SGLangEngine,
    "tensorrt_llm": TensorRTLLMEngine,
    "auto_deploy": AutoDeployEngine,
    "vllm_server": VLLMServerEngine,
    "sglang_server": SGLangServerEngine,
    "tensorrt_llm_server": TensorRTLLMServerEngine,
    "llama_cpp_server": LlamaCppServerEngine,
    "synthetic": SyntheticEngine,
}
"""The dataclass behind each option of the group."""
