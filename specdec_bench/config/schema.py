"""The experiment, typed: one dataclass for each option of each config group.

Hydra merges the YAML of conf/ into these, so a misspelt key or a wrong type fails while the experiment is
composed; `__post_init__` checks ranges when the composed experiment becomes objects. Nothing here imports
an engine.
"""

import datetime
import itertools
import math
from dataclasses import dataclass, field, fields
from typing import Any

from omegaconf import MISSING

from specdec_bench.errors import ConfigError


def _require(condition: bool, key: str, value: object, fix: str) -> None:
    """Raises ConfigError in the one form that all range checks share."""
    if not condition:
        raise ConfigError(f"{key}={value}: {fix}")


def _at_least(minimum: int, **values: int | None) -> None:
    for key, value in values.items():
        if value is not None:
            _require(value >= minimum, key.replace("__", "."), value, f"must be at least {minimum}")


# ---------------------------------------------------------------- engine


@dataclass(kw_only=True)
class EngineConfig:
    """Where and how the target and its draft run. What is set here or in `model` and `spec` needs a new engine."""

    name: str = MISSING
    """The engine's name in the method table; fixed by the chosen YAML."""
    extra_args: dict[str, Any] = field(default_factory=dict)
    """Passed through to the engine; a key that the project sets itself, or the engine lacks, is refused."""


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
        device, _, index = self.device.partition(":")
        known = self.device in ("auto", "cpu") or (device == "cuda" and (index.isdigit() or self.device == "cuda"))
        _require(known, "engine.device", self.device, "use auto, cpu, cuda or cuda:N")
        _at_least(1, engine__num_threads=self.num_threads)


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

    def __post_init__(self) -> None:
        _require(len(self.acceptance_rates) > 0, "engine.acceptance_rates", self.acceptance_rates, "give at least one")
        for rate in self.acceptance_rates:
            _require(0 <= rate <= 1, "engine.acceptance_rates", rate, "each must lie in [0, 1]")
        _require(
            0 <= self.stop_probability <= 1, "engine.stop_probability", self.stop_probability, "must lie in [0, 1]"
        )
        for key, value in (("ttft_ms", self.ttft_ms), ("step_time_ms", self.step_time_ms)):
            _require(math.isfinite(value) and value >= 0, f"engine.{key}", value, "must be 0 or more")
        _at_least(2, engine__vocab_size=self.vocab_size)
        _at_least(1, engine__fail_every=self.fail_every)
        _at_least(0, engine__crash_after=self.crash_after)


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
        _at_least(
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
            _require(0 < share <= 1, "engine.gpu_memory_utilization", share, "must lie in (0, 1]")
        if length is not None:
            key = "engine.synthetic_acceptance_length"
            _require(math.isfinite(length) and length >= 1, key, length, "must lie in [1, spec.draft_length + 1]")
            _require(rates is None, key, length, "leave engine.synthetic_acceptance_rates null beside it")
        if rates is not None:
            falling = all(1 >= before >= after >= 0 for before, after in itertools.pairwise([1.0, *rates]))
            _require(falling, "engine.synthetic_acceptance_rates", rates, "must lie in [0, 1] and never rise")


# ---------------------------------------------------------------- model


@dataclass(kw_only=True)
class DraftCheckpoint:
    """Where a draft is."""

    path: str | None = None
    """As `model.path`."""
    revision: str | None = None


@dataclass(kw_only=True)
class ModelConfig:
    """The target: the model whose output counts."""

    name: str = MISSING
    path: str = MISSING
    """A local folder, a hub id, or bundled:NAME for a checkpoint that ships with the project."""
    revision: str | None = None
    """Commit of a hub checkpoint; pin it for runs that are to be archived."""
    tokenizer: str | None = None
    """Where the tokenizer is, if not with the model."""
    dtype: str = "auto"
    """auto (as stored), float64, float32, bfloat16 or float16; holds for the draft too."""
    max_seq_len: int | None = None
    """Prompt and output tokens of one request; null takes the checkpoint's own limit."""
    trust_remote_code: bool = False
    """Runs Python code that comes with a checkpoint. Only for sources that you trust."""
    drafts: dict[str, DraftCheckpoint] = field(default_factory=dict)
    """Known drafts by spec method; what `spec.draft.path: null` stands for."""
    prompt_format: str = "chat"
    """chat: the conversation in the chat template; completions: its bare text, a newline between the messages."""
    chat_template: str | None = None
    """A file with a template that replaces the tokenizer's own. Its text is archived in its place."""
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    """The template's own arguments: enable_thinking, reasoning_effort, ..."""
    template_date: str | None = None
    """YYYY-MM-DD: what a template that reads the clock is told, so that prompts do not change by the day."""
    add_bos: bool | None = None
    """Begins prompts with the beginning-of-sequence token, never twice; null does so in completions where the tokenizer
    by itself would, and leaves it to the template in a chat."""
    reply_format: str = "text"
    """What of a reply the next turn shows: text (all of it), harmony (gpt-oss's final channel), think (without what
    stands before </think>). The archive keeps the whole reply."""

    def __post_init__(self) -> None:
        known: tuple[str, ...] = ("auto", "float64", "float32", "bfloat16", "float16")
        _require(self.dtype in known, "model.dtype", self.dtype, f"use one of {', '.join(known)}")
        known = ("chat", "completions")
        _require(self.prompt_format in known, "model.prompt_format", self.prompt_format, "use chat or completions")
        known = ("text", "harmony", "think")
        _require(self.reply_format in known, "model.reply_format", self.reply_format, "use text, harmony or think")
        if self.prompt_format == "completions":
            fix = "has no effect with model.prompt_format=completions; leave it out"
            _require(self.chat_template is None, "model.chat_template", self.chat_template, fix)
            _require(not self.chat_template_kwargs, "model.chat_template_kwargs", self.chat_template_kwargs, fix)
        taken = ("messages", "conversation", "chat_template", "tokenize", "add_generation_prompt", "strftime_now")
        for key, value in self.chat_template_kwargs.items():
            _require(key not in taken, f"model.chat_template_kwargs.{key}", value, "the project sets that itself")
        if self.template_date is not None:
            fix = "must be a date as in 2025-08-05"
            try:
                _require(len(self.template_date) == 10, "model.template_date", self.template_date, fix)
                datetime.date.fromisoformat(self.template_date)
            except ValueError:
                raise ConfigError(f"model.template_date={self.template_date}: {fix}") from None
        _at_least(2, model__max_seq_len=self.max_seq_len)


# ---------------------------------------------------------------- dataset


@dataclass(kw_only=True)
class DatasetConfig:
    """What is asked of the model."""

    name: str = MISSING
    path: str | None = None
    """The file, where the dataset does not ship with the project."""
    num_prompts: int | None = None
    """A subset of that many conversations, spread over the categories, drawn with `seed`; null takes all."""
    num_turns: int | None = None
    """At most that many turns of each conversation; null takes all."""
    categories: list[str] | None = None
    """Only conversations of these categories; null takes all."""
    min_input_tokens: int | None = None
    """Only conversations whose first request is at least that long, chat template included."""
    max_input_tokens: int | None = None
    """Only conversations whose first request is at most that long, chat template included."""

    def __post_init__(self) -> None:
        _at_least(
            1,
            dataset__num_prompts=self.num_prompts,
            dataset__num_turns=self.num_turns,
            dataset__min_input_tokens=self.min_input_tokens,
            dataset__max_input_tokens=self.max_input_tokens,
        )
        if self.categories is not None:
            _require(len(self.categories) > 0, "dataset.categories", "[]", "name at least one, or null for all")
        least, most = self.min_input_tokens, self.max_input_tokens
        if least is not None and most is not None:
            _require(least <= most, "dataset.min_input_tokens", least, f"must not exceed max_input_tokens={most}")


@dataclass(kw_only=True)
class DemoDataset(DatasetConfig):
    """The project's own prompts, suited to the bundled tiny model."""

    name: str = "demo"


@dataclass(kw_only=True)
class MTBenchDataset(DatasetConfig):
    """MT-Bench: 80 questions of two turns in 8 categories."""

    name: str = "mt_bench"


@dataclass(kw_only=True)
class SpecBenchDataset(DatasetConfig):
    """Spec-Bench: 480 questions in the six groups that it reports."""

    name: str = "spec_bench"
    grouped: bool = True
    """Takes MT-Bench's eight categories for one, `mt_bench`, as Spec-Bench's own evaluation does; false reports all
    thirteen. The prompts archive the file's category either way."""


@dataclass(kw_only=True)
class RandomDataset(DatasetConfig):
    """Token ids drawn uniformly: for exact input lengths. Acceptance on random text says little of real use."""

    name: str = "random"
    num_prompts: int | None = 128
    """How many are made."""
    seed: int = 0
    """Of lengths and ids; the YAML gives it the experiment's."""
    input_tokens: int = 1024
    """The length of every prompt; with `length_distribution` uniform its middle, with lognormal its median."""
    length_distribution: str = "fixed"
    """fixed, uniform or lognormal."""
    length_spread: float = 0.5
    """uniform: lengths lie within input_tokens x (1 - spread) and x (1 + spread), both included; lognormal: the
    standard deviation of the length's logarithm. Without effect on fixed."""
    max_length: int | None = None
    """Lognormal lengths beyond it are cut to it; null cuts none."""

    def __post_init__(self) -> None:
        DatasetConfig.__post_init__(self)
        _require(self.num_prompts is not None, "dataset.num_prompts", None, "say how many to make")
        for key, value in (("path", self.path), ("categories", self.categories)):
            _require(value is None, f"dataset.{key}", value, "dataset=random has none; leave it null")
        _at_least(1, dataset__input_tokens=self.input_tokens, dataset__max_length=self.max_length)
        known = ("fixed", "uniform", "lognormal")
        kind, spread = self.length_distribution, self.length_spread
        _require(kind in known, "dataset.length_distribution", kind, f"use one of {', '.join(known)}")
        _require(math.isfinite(spread) and spread >= 0, "dataset.length_spread", spread, "must be 0 or more")
        _require(kind != "uniform" or spread < 1, "dataset.length_spread", spread, "must be below 1 for uniform")


@dataclass(kw_only=True)
class SpeedBenchDataset(DatasetConfig):
    """SPEED-Bench: one of its splits."""

    name: str = "speed_bench"
    split: str = "qualitative"
    """qualitative (11 categories), or throughput_1k, _2k, _8k, _16k, _32k (three entropy tiers)."""

    def __post_init__(self) -> None:
        DatasetConfig.__post_init__(self)
        known = ("qualitative", *(f"throughput_{length}k" for length in (1, 2, 8, 16, 32)))
        _require(self.split in known, "dataset.split", self.split, f"use one of {', '.join(known)}")


@dataclass(kw_only=True)
class ShareGPTDataset(DatasetConfig):
    """Conversations of which the human's messages are the turns."""

    name: str = "sharegpt"


@dataclass(kw_only=True)
class HFDataset(DatasetConfig):
    """Any dataset of the Hugging Face hub, or local files; which column is what is yours to say."""

    name: str = "hf"
    id: str | None = None
    """owner/name on the hub; or give `path`, a file or a folder of parquet or JSON files."""
    subset: str | None = None
    """The dataset's configuration, where it has several."""
    split: str = "train"
    revision: str | None = None
    """Commit; pin it for runs that are to be archived."""
    prompt_column: str | None = None
    """Of the only turn, a string. One of this and the next two is needed."""
    turns_column: str | None = None
    """Of all turns, a list of strings."""
    conversations_column: str | None = None
    """Of all messages, a list of {from, value} or {role, content}."""
    id_column: str | None = None
    """null numbers the rows."""
    category_column: str | None = None
    system_column: str | None = None

    def __post_init__(self) -> None:
        DatasetConfig.__post_init__(self)
        given = [c for c in (self.prompt_column, self.turns_column, self.conversations_column) if c is not None]
        fix = "give one of prompt_column, turns_column and conversations_column"
        _require(len(given) <= 1, "dataset", ", ".join(given), fix)


@dataclass(kw_only=True)
class PreparedDataset(DatasetConfig):
    """A file that `specdec-bench prepare` wrote."""

    name: str = "prepared"


@dataclass(kw_only=True)
class JsonlDataset(DatasetConfig):
    """One conversation a line."""

    name: str = "jsonl"


# ---------------------------------------------------------------- spec


@dataclass(kw_only=True)
class SpecConfig:
    """How tokens are drafted."""

    name: str = MISSING
    """The method's name in the method table; fixed by the chosen YAML."""


@dataclass(kw_only=True)
class NoSpec(SpecConfig):
    """Plain autoregressive decoding: the baseline."""

    name: str = "none"


@dataclass(kw_only=True)
class DraftingSpec(SpecConfig):
    """A method that drafts."""

    draft_length: int = 3
    """K: tokens proposed for each verify step."""

    def __post_init__(self) -> None:
        _at_least(1, spec__draft_length=self.draft_length)


@dataclass(kw_only=True)
class NgramSpec(DraftingSpec):
    """Prompt lookup: drafts what followed the last n-gram earlier in the context."""

    name: str = "ngram"
    ngram_min: int = 1
    """Shortest n-gram that is looked up."""
    ngram_max: int = 3
    """Longest n-gram that is looked up; the longest match wins."""

    def __post_init__(self) -> None:
        DraftingSpec.__post_init__(self)
        _at_least(1, spec__ngram_min=self.ngram_min)
        _require(
            self.ngram_max >= self.ngram_min,
            "spec.ngram_max",
            self.ngram_max,
            f"must be at least spec.ngram_min={self.ngram_min}",
        )


@dataclass(kw_only=True)
class SuffixSpec(DraftingSpec):
    """Suffix decoding: drafts what most often followed the longest matching suffix, as far as that is likely.

    Source: arXiv 2411.04975.
    """

    name: str = "suffix"
    max_tree_depth: int = 24
    """Longest match and drafts together, in tokens."""
    max_spec_factor: float = 1.0
    """Drafts at most this times the length of the match."""
    min_token_prob: float = 0.1
    """Drafts only what is at least this likely, by counts."""
    max_cached_requests: int = 0
    """Earlier responses that are looked up too; 0 keeps requests independent of one another."""

    def __post_init__(self) -> None:
        DraftingSpec.__post_init__(self)
        _at_least(1, spec__max_tree_depth=self.max_tree_depth)
        _at_least(0, spec__max_cached_requests=self.max_cached_requests)
        _require(self.max_spec_factor > 0, "spec.max_spec_factor", self.max_spec_factor, "must be above 0")
        _require(0 <= self.min_token_prob <= 1, "spec.min_token_prob", self.min_token_prob, "must lie in [0, 1]")


@dataclass(kw_only=True)
class CheckpointSpec(DraftingSpec):
    """A method whose drafter has weights of its own."""

    draft: DraftCheckpoint = field(default_factory=DraftCheckpoint)
    """The draft's checkpoint; a null path takes the model's known draft."""


@dataclass(kw_only=True)
class DraftModelSpec(CheckpointSpec):
    """A smaller model with the target's vocabulary drafts."""

    name: str = "draft_model"
    parallel_drafting: bool = False
    """All K tokens in one pass, by a draft that was trained for it (PARD, arXiv 2504.18583)."""


@dataclass(kw_only=True)
class EagleSpec(CheckpointSpec):
    """A head that drafts from the target's last hidden state. Source: arXiv 2401.15077."""

    name: str = "eagle"
    parallel_drafting: bool = False
    """All K tokens in one pass, by a head that was trained for it (P-EAGLE)."""


@dataclass(kw_only=True)
class Eagle3Spec(CheckpointSpec):
    """A head that drafts from hidden states of several of the target's layers. Source: arXiv 2503.01840."""

    name: str = "eagle3"
    parallel_drafting: bool = False
    """All K tokens in one pass, by a head that was trained for it (P-EAGLE)."""


@dataclass(kw_only=True)
class MTPSpec(CheckpointSpec):
    """The target's own multi-token-prediction layers; `draft` only where they are a checkpoint of their own."""

    name: str = "mtp"


@dataclass(kw_only=True)
class MedusaSpec(CheckpointSpec):
    """One head for each draft position. Source: arXiv 2401.10774."""

    name: str = "medusa"


@dataclass(kw_only=True)
class DFlashSpec(CheckpointSpec):
    """A block-diffusion drafter: all K tokens in one pass. Source: arXiv 2602.06036."""

    name: str = "dflash"


# ---------------------------------------------------------------- load and sampling


@dataclass(kw_only=True)
class LoadConfig:
    """How requests are offered."""

    name: str = MISSING
    num_warmup: int = 1
    """Requests sent before the measured window, in no figure."""
    repeats: int = 1
    """How often the whole dataset is run within the window."""

    def __post_init__(self) -> None:
        _at_least(0, load__num_warmup=self.num_warmup)
        _at_least(1, load__repeats=self.repeats)


@dataclass(kw_only=True)
class ClosedLoad(LoadConfig):
    """A fixed number of conversations in flight; the next starts when one ends."""

    name: str = "closed"
    concurrency: int = 1

    def __post_init__(self) -> None:
        LoadConfig.__post_init__(self)
        _at_least(1, load__concurrency=self.concurrency)


@dataclass(kw_only=True)
class SamplingConfig:
    """How the target's tokens are chosen and when a request ends."""

    max_new_tokens: int = 128
    min_new_tokens: int = 0
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    top_k: int = 0
    """0 means no limit."""
    ignore_eos: bool = False
    """Generate past the end of sequence up to max_new_tokens; distorts acceptance."""
    stop_token_ids: list[int] = field(default_factory=list)
    """End a request as the model's own end-of-sequence tokens do."""

    def __post_init__(self) -> None:
        _at_least(1, sampling__max_new_tokens=self.max_new_tokens)
        _at_least(0, sampling__min_new_tokens=self.min_new_tokens, sampling__top_k=self.top_k)
        _require(
            self.min_new_tokens <= self.max_new_tokens,
            "sampling.min_new_tokens",
            self.min_new_tokens,
            f"must not exceed sampling.max_new_tokens={self.max_new_tokens}",
        )
        _require(
            math.isfinite(self.temperature) and self.temperature >= 0,
            "sampling.temperature",
            self.temperature,
            "must be 0 or more",
        )
        _require(0 < self.top_p <= 1, "sampling.top_p", self.top_p, "must lie in (0, 1]")
        for token_id in self.stop_token_ids:
            _require(token_id >= 0, "sampling.stop_token_ids", token_id, "token ids are 0 or more")


# ---------------------------------------------------------------- the experiment


@dataclass(kw_only=True)
class Expected:
    """Published figures, which `specdec-bench check` compares the finished run with."""

    acceptance_length_drafted: float | None = None
    """1 + accepted / verify steps, pooled; vLLM calls it mean acceptance length."""
    acceptance_joint: list[float] = field(default_factory=list)
    """Of each draft position."""
    num_requests: int | None = None
    """Finished requests that the figures are of; a run of fewer or more is not compared."""
    relative_tolerance: float = 0.05
    source: str = ""

    def __post_init__(self) -> None:
        length = self.acceptance_length_drafted
        if length is not None:
            _require(length >= 1, "expected.acceptance_length_drafted", length, "must be at least 1")
        for rate in self.acceptance_joint:
            _require(0 < rate <= 1, "expected.acceptance_joint", rate, "each must lie in (0, 1]")
        share = self.relative_tolerance
        _require(0 < share < 1, "expected.relative_tolerance", share, "must lie in (0, 1)")


@dataclass(kw_only=True)
class ExperimentConfig:
    """One cell: one engine configuration, model, dataset, spec method and load."""

    engine: EngineConfig = MISSING
    model: ModelConfig = MISSING
    dataset: DatasetConfig = MISSING
    spec: SpecConfig = MISSING
    load: LoadConfig = MISSING
    sampling: SamplingConfig = MISSING
    seed: int = 0
    """Draws the subset of prompts and seeds every request's sampling."""
    replicate: int = 0
    """Tells a cell from one that is run again just the same, as a control; changes nothing else."""
    expected: Expected = field(default_factory=Expected)
    """What the run is known to give elsewhere; changes nothing in how it runs."""

    def __post_init__(self) -> None:
        _at_least(0, seed=self.seed, replicate=self.replicate)


NO_BASELINE, AUTO = "none", "auto"


@dataclass(kw_only=True)
class SweepConfig(ExperimentConfig):
    """What is composed: the experiment, and what a sweep makes of many of them."""

    baseline: str = NO_BASELINE
    """What speculative cells are compared with beside the sweep's own plain cells: none; auto adds the plain cells
    that are missing; or the directory of an archived run or sweep."""
    control: bool = False
    """Runs every plain cell of the sweep once more, to tell floating-point noise from a method that changes the
    output."""


OPTIONS: dict[str, dict[str, type]] = {
    "engine": {"transformers": TransformersEngine, "vllm": VLLMEngine, "synthetic": SyntheticEngine},
    "model": {"checkpoint": ModelConfig},
    "dataset": {
        "demo": DemoDataset,
        "mt_bench": MTBenchDataset,
        "spec_bench": SpecBenchDataset,
        "speed_bench": SpeedBenchDataset,
        "random": RandomDataset,
        "sharegpt": ShareGPTDataset,
        "hf": HFDataset,
        "prepared": PreparedDataset,
        "jsonl": JsonlDataset,
    },
    "spec": {
        "none": NoSpec,
        "ngram": NgramSpec,
        "suffix": SuffixSpec,
        "draft_model": DraftModelSpec,
        "eagle": EagleSpec,
        "eagle3": Eagle3Spec,
        "mtp": MTPSpec,
        "medusa": MedusaSpec,
        "dflash": DFlashSpec,
    },
    "load": {"closed": ClosedLoad},
    "sampling": {"base": SamplingConfig},
}
"""The dataclass behind each option: `conf/GROUP/*.yaml` names one as /schema/GROUP/OPTION."""


def draft_length(spec: SpecConfig) -> int | None:
    """Returns K, or None for plain decoding."""
    return spec.draft_length if isinstance(spec, DraftingSpec) else None


def field_names(config: object) -> list[str]:
    """Returns the names a user may set on this option, in order."""
    return [f.name for f in fields(config)]  # type: ignore[arg-type]
