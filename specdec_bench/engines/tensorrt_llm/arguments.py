"""Translates the project's settings to arguments of TensorRT-LLM's LLM API. Does not import TensorRT-LLM.

An object among the arguments is written as `{"CLASS": {its own arguments}}`, plain data for the archive.
`build_objects` makes the objects.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from specdec_bench.config.checkpoints import draft_checkpoint, resolve
from specdec_bench.config.schema.engine import AutoDeployEngine, LLMAPIEngine, TensorRTLLMEngine
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.config.schema.spec import DraftingSpec, DraftModelSpec, Eagle3Spec, MTPSpec, NgramSpec
from specdec_bench.engines.extra_args import ExtraArguments
from specdec_bench.errors import ConfigError, EngineUnavailableError

SETTINGS: Mapping[str, str] = {
    "model": "model.path",
    "tokenizer": "model.tokenizer",
    "revision": "model.revision",
    "tokenizer_revision": "model.revision",
    "dtype": "model.dtype",
    "max_seq_len": "model.max_seq_len",
    "trust_remote_code": "model.trust_remote_code",
    "speculative_config": "spec",
    "max_batch_size": "engine.max_num_seqs",
    "cuda_graph_config": "engine.max_num_seqs",
    "cuda_graph_batch_sizes": "engine.max_num_seqs",
    "max_num_tokens": "engine.max_num_batched_tokens",
    "kv_cache_config": "engine.enable_prefix_caching and engine.gpu_memory_utilization",
    "free_mem_ratio": "engine.gpu_memory_utilization",
    "attn_backend": "engine.attention_backend",
    "disable_overlap_scheduler": "engine.disable_overlap_scheduler",
    "tensor_parallel_size": "engine.tensor_parallel_size (engine.world_size of auto_deploy)",
    "pipeline_parallel_size": "engine.pipeline_parallel_size (engine.world_size of auto_deploy)",
    "moe_expert_parallel_size": "engine.expert_parallel_size (engine.world_size of auto_deploy)",
    "world_size": "engine.world_size",
    "backend": "engine=tensorrt_llm or engine=auto_deploy",
}
"""Arguments of LlmArgs that a setting decides."""

SPEC_SETTINGS: Mapping[str, str] = {
    "max_draft_len": "draft_length",
    "num_nextn_predict_layers": "draft_length",
    "max_matching_ngram_size": "ngram_max",
    "speculative_model": "draft.path",
    "speculative_model_dir": "draft.path",
}
"""Fields of a method's decoding config that a setting of `spec` decides, and that setting."""

FIXED: Mapping[str, Any] = {
    "skip_tokenizer_init": True,  # token ids go in and come out
    "stream_interval": 1,  # a response for every engine step
}
"""Arguments whose values the project needs; left out if the release lacks them."""

EXTRA_ARGUMENTS = ExtraArguments(
    engine="TensorRT-LLM", reference="TensorRT-LLM's LlmArgs", settings=SETTINGS, fixed=FIXED
)

BACKENDS: Mapping[str, str] = {"tensorrt_llm": "pytorch", "auto_deploy": "_autodeploy"}
"""TensorRT-LLM's names for the two engines."""

CLASSES = (
    "NGramDecodingConfig",
    "DraftTargetDecodingConfig",
    "PARDDecodingConfig",
    "Eagle3DecodingConfig",
    "EagleDecodingConfig",
    "MTPDecodingConfig",
    "KvCacheConfig",
    "CudaGraphConfig",
)
"""The LLM API's classes that are used, across all releases."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """What the installed TensorRT-LLM has."""

    version: str
    known: Collection[str]
    """The fields of its LlmArgs: the PyTorch backend's, or AutoDeploy's."""
    fields: Mapping[str, Collection[str]]
    """The fields of those of CLASSES that it has."""


def engine_arguments(config: ExperimentConfig, release: Release) -> dict[str, Any]:
    """Returns the keyword arguments of LLM, without those left to TensorRT-LLM.

    Raises:
        ConfigError: settings that do not go together.
        EngineUnavailableError: the release lacks the method or an argument that the experiment needs.
    """
    engine, model = config.engine, config.model
    assert isinstance(engine, LLMAPIEngine)
    arguments: dict[str, Any] = {
        "model": resolve(model.path),
        "revision": model.revision,
        "dtype": model.dtype,
        "max_seq_len": model.max_seq_len,
        "trust_remote_code": model.trust_remote_code,
        "max_batch_size": engine.max_num_seqs,
        "max_num_tokens": engine.max_num_batched_tokens,
        "attn_backend": engine.attention_backend,
        "disable_overlap_scheduler": _without_overlap(config),
        **(_auto_deploy(engine, release) if isinstance(engine, AutoDeployEngine) else _pytorch(engine)),
        "speculative_config": speculative_config(config, release),
    }
    arguments = {name: value for name, value in arguments.items() if value is not None or name == "cuda_graph_config"}
    for name in arguments:
        if name not in release.known:
            raise EngineUnavailableError(f"{SETTINGS[name]}: TensorRT-LLM {release.version} has no {name}")
    return arguments | {name: value for name, value in FIXED.items() if name in release.known}


def _pytorch(engine: LLMAPIEngine) -> dict[str, Any]:
    """Returns the arguments that only the PyTorch backend has."""
    assert isinstance(engine, TensorRTLLMEngine)
    return {
        "tensor_parallel_size": engine.tensor_parallel_size,
        "pipeline_parallel_size": engine.pipeline_parallel_size,
        "moe_expert_parallel_size": engine.expert_parallel_size,
        "kv_cache_config": _kv_cache(engine, share=engine.gpu_memory_utilization),
        # None means no CUDA graphs, which differs from leaving it out.
        "cuda_graph_config": None if engine.enforce_eager else _cuda_graphs(engine),
    }


def _auto_deploy(engine: AutoDeployEngine, release: Release) -> dict[str, Any]:
    """Returns the arguments that only AutoDeploy has. Up to 1.1 it had its own names for them."""
    has_ratio = "free_mem_ratio" in release.known
    arguments: dict[str, Any] = {
        "world_size": engine.world_size,
        "free_mem_ratio": engine.gpu_memory_utilization if has_ratio else None,
        "kv_cache_config": _kv_cache(engine, share=None if has_ratio else engine.gpu_memory_utilization),
    }
    if "cuda_graph_config" in release.known:
        return arguments | {"cuda_graph_config": _cuda_graphs(engine)}
    return arguments | {"cuda_graph_batch_sizes": _graph_sizes(engine.max_num_seqs)}


def _kv_cache(engine: LLMAPIEngine, share: float | None) -> dict[str, Any]:
    options = {"enable_block_reuse": engine.enable_prefix_caching}
    return {"KvCacheConfig": options | ({} if share is None else {"free_gpu_memory_fraction": share})}


def _cuda_graphs(engine: LLMAPIEngine) -> dict[str, Any]:
    """Returns the graphs' sizes: up to the largest batch, and every batch is padded to one of them."""
    return {"CudaGraphConfig": {"max_batch_size": engine.max_num_seqs, "enable_padding": True}}


def _graph_sizes(largest: int | None) -> list[int]:
    """Returns the powers of two below the largest batch, and that."""
    assert largest is not None
    return [1 << power for power in range((largest - 1).bit_length())] + [largest]


def _without_overlap(config: ExperimentConfig) -> bool | None:
    """Returns `disable_overlap_scheduler`.

    Raises:
        ConfigError: the method does not run with it.
    """
    engine, spec = config.engine, config.spec
    assert isinstance(engine, LLMAPIEngine)
    chosen = engine.disable_overlap_scheduler
    if not isinstance(spec, DraftModelSpec | NgramSpec) or getattr(spec, "parallel_drafting", False):
        return chosen
    if chosen is False:
        raise ConfigError(
            f"engine.disable_overlap_scheduler=False: spec={spec.name} does not run with the overlap scheduler; use "
            "null, or true for the baseline too"
        )
    return True


def speculative_config(config: ExperimentConfig, release: Release) -> dict[str, Any] | None:
    """Returns the method's decoding config and its arguments; None for plain decoding.

    Raises:
        ConfigError: a setting of the draft that TensorRT-LLM does not support.
        EngineUnavailableError: the release lacks the method or a parameter of it.
    """
    engine, spec = config.engine, config.spec
    if not isinstance(spec, DraftingSpec):
        return None
    name = _decoding_class(spec, release)
    fields = release.fields[name]
    arguments: dict[str, Any] = {"max_draft_len": spec.draft_length}
    if isinstance(spec, NgramSpec):
        # By default TensorRT-LLM's pool also looks up n-grams of other requests.
        arguments |= {"max_matching_ngram_size": spec.ngram_max, "is_public_pool": False}
    elif isinstance(spec, MTPSpec) and "num_nextn_predict_layers" in fields:
        arguments = {"num_nextn_predict_layers": spec.draft_length}
    if (draft := draft_checkpoint(config)) is not None:
        if isinstance(spec, MTPSpec):
            raise ConfigError(
                f"spec.draft.path={draft.path}: TensorRT-LLM's mtp drafts with the target's own layers; leave it null"
            )
        if draft.revision is not None:
            raise ConfigError(
                f"spec.draft.revision={draft.revision}: TensorRT-LLM takes no revision of a draft; download it and "
                "give its folder as spec.draft.path"
            )
        field = "speculative_model" if "speculative_model" in fields else "speculative_model_dir"
        arguments[field] = resolve(draft.path)
    if getattr(engine, "allow_advanced_sampling", False) and not isinstance(spec, NgramSpec):
        arguments["allow_advanced_sampling"] = True
    for argument in arguments:
        if argument not in fields:
            raise EngineUnavailableError(
                f"spec={spec.name}: TensorRT-LLM {release.version} has no {argument} in its {name}"
            )
    return {name: arguments}


def _decoding_class(spec: DraftingSpec, release: Release) -> str:
    """Returns the name of the method's decoding config, the newest that the release has.

    Raises:
        EngineUnavailableError: it has none.
    """
    names: Mapping[type, tuple[str, ...]] = {
        NgramSpec: ("NGramDecodingConfig",),
        DraftModelSpec: ("DraftTargetDecodingConfig",),
        Eagle3Spec: ("Eagle3DecodingConfig", "EagleDecodingConfig"),
        MTPSpec: ("MTPDecodingConfig",),
    }
    is_parallel = getattr(spec, "parallel_drafting", False)
    wanted = ("PARDDecodingConfig",) if is_parallel else names[type(spec)]
    for name in wanted:
        if name in release.fields:
            return name
    method = f"spec={spec.name}" + (" with spec.parallel_drafting=true" if is_parallel else "")
    raise EngineUnavailableError(f"{method}: TensorRT-LLM {release.version} has no {wanted[0]}")


def asked_and_resolved(arguments: Mapping[str, Any], resolved: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Returns each argument's setting, the value asked for and the value that TensorRT-LLM runs with.

    Args:
        arguments: of `engine_arguments`, with `engine.extra_args`.
        resolved: TensorRT-LLM's arguments, its objects as dictionaries.
    """
    triples: list[tuple[str, Any, Any]] = []
    for name, asked in arguments.items():
        setting, got = SETTINGS.get(name, f"engine.extra_args.{name}"), resolved.get(name)
        if isinstance(asked, Mapping) and isinstance(got, Mapping):
            given = next(iter(asked.values())) if asked.keys() & set(CLASSES) else asked
            triples += [
                (f"{setting}.{SPEC_SETTINGS.get(key, key)}", value, got[key])
                for key, value in given.items()
                if key in got
            ]
        elif name in resolved:
            triples.append((setting, asked, got))
    return triples


def build_objects(arguments: Mapping[str, Any], make: Callable[[str, dict[str, Any]], Any]) -> dict[str, Any]:
    """Returns the arguments with an object in place of each `{"CLASS": {...}}`; `make` gets class and arguments."""
    return {
        name: make(*next(iter(value.items()))) if isinstance(value, dict) and value.keys() & set(CLASSES) else value
        for name, value in arguments.items()
    }


def sampling_arguments(
    max_new_tokens: int, temperature: float, top_p: float, top_k: int, seed: int, stop_token_ids: Collection[int]
) -> dict[str, Any]:
    """Returns the keyword arguments of a request's own SamplingParams."""
    stops = list(stop_token_ids)
    arguments: dict[str, Any] = {
        "max_tokens": max_new_tokens,
        # Without a tokenizer TensorRT-LLM needs an end token, even if it ignores it.
        "end_id": stops[0] if stops else 0,
        "ignore_eos": not stops,  # switches off every stop, not only the end token
        "detokenize": False,
    }
    if len(stops) > 1:
        # It would cut a stop other than the end token from the output.
        arguments |= {"stop_token_ids": stops[1:], "include_stop_str_in_output": True}
    if temperature == 0:
        return arguments | {"top_k": 1}
    # Always top_p: without top_p and top_k, releases take the most likely token, whatever the temperature.
    arguments |= {"temperature": temperature, "top_p": top_p, "seed": seed}
    return arguments | ({"top_k": top_k} if top_k else {})
