"""Reads what a llama.cpp server runs, and compares it with the experiment."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from specdec_bench.config.schema.engine import LlamaCppServerEngine
from specdec_bench.config.schema.experiment import ExperimentConfig, draft_length
from specdec_bench.config.schema.spec import CheckpointSpec, DraftingSpec, NgramSpec, SpecConfig
from specdec_bench.engines.server.http import Client
from specdec_bench.engines.server.identity import ServedModel
from specdec_bench.engines.server.llama_cpp_arguments import FIXED, TYPES, Release
from specdec_bench.engines.server.llama_cpp_reply import LlamaCppReply
from specdec_bench.errors import ConfigError, EngineError
from specdec_bench.records.manifest import EngineDescription

KEPT = ("build_info", "model_path", "model_ftype", "total_slots", "default_generation_settings")
"""Of /props: what is archived."""


async def read_properties(client: Client) -> dict[str, Any]:
    """Returns what the server tells of itself.

    Raises:
        ConfigError: the server wants a key.
        EngineError: it does not tell.
    """
    answer = await client.request("GET", "/props")
    if answer.status == 401:
        raise ConfigError(f"engine.url={client.url}: the server wants a key; name its variable in engine.api_key_env")
    told = answer.json() if answer.status == 200 else None
    if not isinstance(told, dict) or "model_path" not in told or "total_slots" not in told:
        raise EngineError(f"{client.url}: does not answer /props as llama.cpp's server does")
    return {name: told[name] for name in KEPT if name in told}


def model_names(told: Mapping[str, Any]) -> list[str]:
    """Returns by what paths the server may mean the experiment's model: its GGUF file, and that file's folder."""
    file = str(told["model_path"])
    return [file, str(Path(file).parent)]


def describe(
    config: ExperimentConfig,
    arguments: Mapping[str, Any],
    model: ServedModel,
    told: Mapping[str, Any],
    probe: LlamaCppReply,
    *,
    address: str,
    release: Release | None,
    num_positions: int | None,
    has_totals: bool,
) -> EngineDescription:
    """Returns what the server runs.

    Args:
        config: the experiment.
        arguments: that it was started with; none for a server that runs already.
        model: of `find_model`.
        told: of `read_properties`.
        probe: the reply to the probe request.
        address: the server's.
        release: of the program that was started; None for a server that runs already.
        num_positions: draft positions that the server's counters have; None as long as nothing was drafted.
        has_totals: whether the server has counters.

    Raises:
        ConfigError: a server that runs already differs from the experiment.
        EngineError: the server does not tell the length of its context.
    """
    engine = config.engine
    assert isinstance(engine, LlamaCppServerEngine)
    url = engine.url_for(config.spec)
    context = told.get("default_generation_settings", {}).get("n_ctx")
    if not isinstance(context, int):
        raise EngineError(f"{address}: does not tell the length of its context")
    asked = config.model.max_seq_len
    if asked is not None and asked > context:
        raise ConfigError(f"model.max_seq_len={asked}: the server at {address} has room for {context}; set it to that")
    slots = told["total_slots"]
    if engine.max_num_seqs is not None and engine.max_num_seqs != slots:
        raise ConfigError(
            f"engine.max_num_seqs={engine.max_num_seqs}: the server at {address} runs {slots} requests at once; set it "
            "to that"
        )
    file = Path(str(told["model_path"])).name
    if engine.gguf_file not in (None, file):
        raise ConfigError(
            f"engine.gguf_file={engine.gguf_file}: the server at {address} runs {file}; set it to that, or to null"
        )
    claimed = _check_drafting(config, probe, address, num_positions)
    notes = []
    if url is not None:
        claimed += [*(["model.path"] if model.is_claimed else []), *_untold(config.spec, engine)]
    if isinstance(config.spec, DraftingSpec) and not has_totals:
        notes.append(
            "the server keeps no counters; start it with --metrics to have its totals beside the requests' sums"
        )
    if isinstance(config.spec, DraftingSpec) and not probe.has_step_counts:
        notes.append("the server tells no counts of each step; install a newer release of llama.cpp")
    return EngineDescription(
        arguments=dict(arguments) if url is None else {"url": url},
        resolved={
            "llama.cpp": told.get("build_info") if release is None else release.version,
            **told,
            "speculative.types": probe.settings.types,
            "end_token_ids": [*sorted(bias.token for bias in probe.settings.logit_bias if bias.token is not None)],
        },
        max_seq_len=context if asked is None else asked,
        num_accelerators=0 if release is None or engine.gpu_layers == 0 else release.num_devices,
        reproducible=False,
        is_elsewhere=url is not None,
        claimed=tuple(claimed),
        notes=tuple(notes),
    )


def _check_drafting(
    config: ExperimentConfig, probe: LlamaCppReply, address: str, num_positions: int | None
) -> list[str]:
    """Compares how the server drafts with the experiment. Returns what remains the user's claim.

    Raises:
        ConfigError: it drafts otherwise, or not at all.
    """
    name, length = config.spec.name, draft_length(config.spec)
    if not probe.settings.types:  # a release that does not tell
        return ["spec", *(["spec.draft_length"] if num_positions is None else [])]
    runs = [kind for kind in probe.settings.types.split(",") if kind not in ("", "none")]
    if not isinstance(config.spec, DraftingSpec):
        if runs:
            drafts = ", ".join(runs)
            raise ConfigError(f"spec=none: the server at {address} drafts by {drafts}; start one without speculation")
        return []
    if not runs:
        raise ConfigError(f"spec={name}: the server at {address} does not draft")
    if runs != [TYPES[name]]:
        raise ConfigError(
            f"spec={name}: the server at {address} drafts by {', '.join(runs)}, not {TYPES[name]}; choose that method"
        )
    if num_positions is None:
        return ["spec.draft_length"]
    if num_positions != length:
        raise ConfigError(
            f"spec.draft_length={length}: the server at {address} drafts {num_positions} tokens; set "
            f"spec.draft_length={num_positions}"
        )
    return []


def _untold(spec: SpecConfig, engine: LlamaCppServerEngine) -> list[str]:
    """Returns settings that no server tells of, and the arguments that the project would have started it with."""
    names = ("draft_gguf_file", "max_num_batched_tokens", "num_threads", "gpu_layers")
    given = [f"engine.{name}" for name in names if getattr(engine, name) is not None]
    if isinstance(spec, NgramSpec):
        return ["spec.ngram_max", *given]
    if not isinstance(spec, DraftingSpec):
        return given
    fixed = [f"{name}={FIXED[name]}" for name in ("spec_draft_n_min", "spec_draft_p_min")]
    return [*(["spec.draft.path"] if isinstance(spec, CheckpointSpec) else []), *given, *fixed]
