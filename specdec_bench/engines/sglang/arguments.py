"""Translates the project's settings to SGLang's arguments. Does not import SGLang."""

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec

from specdec_bench.checkpoints.head_name import named_head
from specdec_bench.config.checkpoints import draft_checkpoint, resolve
from specdec_bench.config.schema.engine import SGLangEngine
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.config.schema.spec import CheckpointSpec, DFlashSpec, DraftingSpec, DSparkSpec, NgramSpec, SpecConfig
from specdec_bench.engines.extra_args import ExtraArguments
from specdec_bench.errors import EngineUnavailableError

ALGORITHMS: Mapping[str, tuple[str, ...]] = {
    "ngram": ("NGRAM", "LOOKAHEAD"),
    "draft_model": ("STANDALONE",),
    "eagle": ("EAGLE",),
    "eagle3": ("EAGLE3",),
    "mtp": ("NEXTN", "EAGLE"),
    "dflash": ("DFLASH",),
    "dspark": ("DSPARK",),
}
"""Method -> its names in SGLang's releases, newest first."""

FIRST_RELEASES: Mapping[str, str] = {"dspark": "0.5.16"}
"""The first release known to have the method, if it is later than the first that is supported."""

SETTINGS: Mapping[str, str] = {
    "model_path": "model.path",
    "tokenizer_path": "model.tokenizer",
    "revision": "model.revision",
    "dtype": "model.dtype",
    "context_length": "model.max_seq_len",
    "trust_remote_code": "model.trust_remote_code",
    "tp_size": "engine.tensor_parallel_size",
    "pp_size": "engine.pipeline_parallel_size",
    "dp_size": "engine.data_parallel_size",
    "ep_size": "engine.expert_parallel_size",
    "max_running_requests": "engine.max_num_seqs",
    "cuda_graph_max_bs": "engine.max_num_seqs",
    "cuda_graph_max_bs_decode": "engine.max_num_seqs",
    "disable_radix_cache": "engine.enable_prefix_caching",
    "disable_cuda_graph": "engine.enforce_eager",
    "mem_fraction_static": "engine.gpu_memory_utilization",
    "attention_backend": "engine.attention_backend",
    "sampling_backend": "engine.sampling_backend",
    "speculative_algorithm": "spec",
    "speculative_draft_model_path": "spec.draft.path",
    "speculative_draft_model_revision": "spec.draft.revision",
    "speculative_num_steps": "spec.draft_length",
    "speculative_eagle_topk": "spec.topk",
    "speculative_num_draft_tokens": "spec.num_draft_tokens",
    "speculative_dspark_block_size": "spec.draft_length",
    "speculative_ngram_max_bfs_breadth": "spec.topk",
    "speculative_ngram_max_trie_depth": "spec.ngram_max",
    "speculative_ngram_min_match_window_size": "spec.ngram_min",
    "speculative_ngram_max_match_window_size": "spec.ngram_max",
}
"""Arguments of ServerArgs that a setting decides."""

INVERTED = ("disable_radix_cache",)
"""Arguments that say the opposite of their setting."""

ALL_TOKENS = 1 << 30
"""SGLang's value for no top_k."""

FIXED: Mapping[str, Any] = {
    "skip_tokenizer_init": True,  # token ids go in and come out
    "stream_interval": 1,  # every engine step reaches this process
    "random_seed": 0,
    "log_level": "warning",
}
"""Arguments whose values the project needs."""

EXTRA_ARGUMENTS = ExtraArguments(engine="SGLang", reference="SGLang's ServerArgs", settings=SETTINGS, fixed=FIXED)


def engine_arguments(config: ExperimentConfig, known: Collection[str], algorithms: Collection[str]) -> dict[str, Any]:
    """Returns the keyword arguments of ServerArgs, without those left to SGLang.

    Args:
        config: the cell.
        known: the fields of the installed release's ServerArgs.
        algorithms: the names of its speculative algorithms.

    Raises:
        EngineUnavailableError: the release lacks the method or an argument that the experiment needs.
    """
    engine, model = config.engine, config.model
    assert isinstance(engine, SGLangEngine)
    # Capturing more graphs than requests can run would differ between plain decoding and speculation.
    graphs = "cuda_graph_max_bs_decode" if "cuda_graph_max_bs_decode" in known else "cuda_graph_max_bs"
    arguments = {
        "model_path": resolve(model.path),
        "tokenizer_path": None if model.tokenizer is None else resolve(model.tokenizer),
        "revision": model.revision,
        "dtype": model.dtype,
        "context_length": model.max_seq_len,
        "trust_remote_code": model.trust_remote_code,
        "tp_size": engine.tensor_parallel_size,
        "pp_size": engine.pipeline_parallel_size,
        "dp_size": engine.data_parallel_size,
        "ep_size": engine.expert_parallel_size,
        "max_running_requests": engine.max_num_seqs,
        graphs: engine.max_num_seqs,
        "disable_radix_cache": not engine.enable_prefix_caching,
        "disable_cuda_graph": engine.enforce_eager,
        "mem_fraction_static": engine.gpu_memory_utilization,
        "attention_backend": engine.attention_backend,
        "sampling_backend": engine.sampling_backend,
        **_speculative(config, known, algorithms),
        **FIXED,
    }
    arguments = {name: value for name, value in arguments.items() if value is not None}
    for name in arguments:
        if name not in known:
            raise EngineUnavailableError(
                f"{SETTINGS.get(name, name)}: the installed SGLang has no {name}; use a release of 0.5.11 or later"
            )
    return arguments


def _speculative(config: ExperimentConfig, known: Collection[str], algorithms: Collection[str]) -> dict[str, Any]:
    """Returns the arguments of the method; none for plain decoding.

    SGLang's draft tokens include the token that is verified beside the drafts: K drafts in a chain are K + 1 draft
    tokens.
    """
    spec = config.spec
    if not isinstance(spec, DraftingSpec):
        return {}
    names = [name for name in ALGORITHMS[spec.name] if name in algorithms]
    if not names:
        newest = ALGORITHMS[spec.name][0]
        raise EngineUnavailableError(
            f"spec={spec.name}: the installed SGLang has no {newest}; use a release of "
            f"{FIRST_RELEASES.get(spec.name, '0.5.11')} or later"
        )
    topk = spec.topk or 1
    arguments: dict[str, Any] = {
        "speculative_algorithm": names[0],
        "speculative_num_draft_tokens": spec.num_draft_tokens or spec.draft_length + 1,
    }
    if isinstance(spec, NgramSpec):
        arguments["speculative_ngram_max_bfs_breadth"] = topk
        if "speculative_ngram_max_match_window_size" in known:
            arguments["speculative_ngram_min_match_window_size"] = spec.ngram_min
            arguments["speculative_ngram_max_match_window_size"] = spec.ngram_max
        else:
            # Its trie holds the matched tokens together with those that follow.
            arguments["speculative_ngram_max_trie_depth"] = spec.ngram_max + spec.draft_length
        return arguments
    # All three or none, as SGLang wants it; a block is drafted in one step.
    arguments["speculative_num_steps"] = 1 if isinstance(spec, DFlashSpec | DSparkSpec) else spec.draft_length
    if isinstance(spec, DSparkSpec):  # else it is the size that the drafter's config.json states
        arguments["speculative_dspark_block_size"] = spec.draft_length
    arguments["speculative_eagle_topk"] = topk
    if isinstance(spec, CheckpointSpec) and (draft := draft_checkpoint(config)) is not None:
        folder = Path(resolve(draft.path))
        arguments["speculative_draft_model_path"] = str(named_head(folder, spec)) if folder.is_dir() else draft.path
        arguments["speculative_draft_model_revision"] = draft.revision
    return arguments


def asked_and_resolved(arguments: Mapping[str, Any], resolved: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Returns each argument's setting, the value asked for and the value that SGLang runs with.

    Args:
        arguments: as they were passed.
        resolved: of `resolved`.
    """
    return [
        (
            SETTINGS.get(name, f"engine.extra_args.{name}"),
            *((not asked, not resolved[name]) if name in INVERTED else (asked, resolved[name])),
        )
        for name, asked in arguments.items()
        if name in resolved and (name, asked, resolved[name]) != ("speculative_algorithm", "NEXTN", "EAGLE")
    ]


def proposed_per_step(config: ExperimentConfig) -> int | None:
    """Returns the number of drafts in every verify step, or None if SGLang pads looked-up drafts."""
    spec = config.spec
    if not isinstance(spec, DraftingSpec) or isinstance(spec, NgramSpec):
        return None
    return (spec.num_draft_tokens or spec.draft_length + 1) - 1


def notes(spec: SpecConfig) -> tuple[str, ...]:
    """Returns what the user has to know of how SGLang runs the method.

    Source: SGLang 0.5.16 and 0.5.20, `_draft_extend_for_prefill` in `speculative/eagle_worker_v2.py`, which the worker
    of draft models inherits.
    """
    if spec.name != "draft_model":
        return ()
    return (
        "SGLang gives a draft model the prompt without its first token, as it prepares prompts for EAGLE heads; the "
        "draft may accept less than on other engines",
    )


def synthetic_stamp(config: ExperimentConfig, environment: Mapping[str, str]) -> str | None:
    """Returns why acceptance is not the model's own; None if it is.

    SGLang forces an acceptance length that it finds in its environment, and tells of it nowhere.

    Args:
        config: the experiment.
        environment: that SGLang runs in.
    """
    forced = environment.get("SGLANG_SIMULATE_ACC_LEN")
    if not forced or forced.startswith("-") or not isinstance(config.spec, DraftingSpec):
        return None
    return f"SGLang accepted drafts at random: SGLANG_SIMULATE_ACC_LEN={forced}"


def field_names(record: Any) -> list[str]:
    """Returns the fields of ServerArgs: a dataclass at first, a msgspec.Struct in newer releases."""
    if dataclasses.is_dataclass(record):
        return [field.name for field in dataclasses.fields(record)]
    return [field.name for field in msgspec.structs.fields(record)]


def resolved(arguments: Any) -> dict[str, Any]:
    """Returns the resolved arguments of a running engine, as plain data.

    Newer releases leave the arguments as given and keep the resolved ones beside them.
    """
    if hasattr(arguments, "resolved_dict"):
        values = dict(arguments.resolved_dict())
    else:
        values = {name: getattr(arguments, name, None) for name in field_names(arguments)}
    return {
        name: dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
        for name, value in values.items()
        if not callable(value)
    }
