"""Reads what a vLLM server runs, and compares it with the experiment."""

from collections.abc import Mapping
from typing import Any

from specdec_bench.config.schema.engine import VLLMServerEngine
from specdec_bench.config.schema.experiment import ExperimentConfig, draft_length
from specdec_bench.config.schema.spec import DraftingSpec
from specdec_bench.engines.readback import differences
from specdec_bench.engines.server.completion import Drafts
from specdec_bench.engines.server.http import Client
from specdec_bench.engines.server.identity import ServedModel
from specdec_bench.engines.vllm import arguments as vllm_arguments
from specdec_bench.errors import ConfigError
from specdec_bench.records.manifest import EngineDescription

TOLD_OTHERWISE = (
    *("model", "tokenizer", "revision", "max_model_len"),
    *("speculative_config", "per_request_spec_decode_metrics"),
)
"""Arguments that /v1/models and the probe request tell of, whatever else the server tells."""


async def read_configuration(client: Client) -> dict[str, Any]:
    """Returns vLLM's configuration by section; empty if the server is not in development mode."""
    answer = await client.request("GET", "/server_info?config_format=json")
    told = answer.json() if answer.status == 200 else None
    found = told.get("vllm_config") if isinstance(told, dict) else None
    return _with_bare_dtypes(found) if isinstance(found, dict) else {}


async def read_release(client: Client) -> str | None:
    """Returns vLLM's version; None if the server does not tell."""
    answer = await client.request("GET", "/version")
    told = answer.json() if answer.status == 200 else None
    return told.get("version") if isinstance(told, dict) else None


def describe(
    config: ExperimentConfig,
    arguments: Mapping[str, Any],
    model: ServedModel,
    resolved: Mapping[str, Any],
    release: str | None,
) -> EngineDescription:
    """Returns what the server runs, as far as it tells.

    Raises:
        ConfigError: a server that runs already differs from the experiment.
    """
    engine = config.engine
    assert isinstance(engine, VLLMServerEngine)
    found = differences(vllm_arguments.asked_and_resolved(arguments, resolved))
    url = engine.url_for(config.spec)
    if url is not None and found:
        first = found[0]
        raise ConfigError(
            f"{first.name}={first.asked}: the server at {url} runs with {first.got}; set it to that, or start another "
            "server"
        )
    claimed = ["model.path"] if model.is_claimed else []
    if not resolved:
        claimed += [_setting(name) for name in arguments if name not in TOLD_OTHERWISE]
    synthetic = vllm_arguments.synthetic_stamp(engine)
    if synthetic is None and _section(resolved, "speculative_config").get("rejection_sample_method") == "synthetic":
        synthetic = "the server accepts drafts at random"
    num_workers = engine.tensor_parallel_size * engine.pipeline_parallel_size * engine.data_parallel_size
    return EngineDescription(
        arguments=dict(arguments) if url is None else {"url": url},
        resolved={"vllm": release, **resolved},
        max_seq_len=model.max_seq_len,
        num_accelerators=0 if _section(resolved, "device_config").get("device") == "cpu" else num_workers,
        reproducible=False,
        is_elsewhere=url is not None,
        synthetic=synthetic,
        differences=found,
        claimed=tuple(claimed),
    )


def check_drafting(
    config: ExperimentConfig, drafts: Drafts | None, resolved: Mapping[str, Any], address: str, *, has_totals: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Compares how the server drafts with the experiment.

    Args:
        config: the experiment.
        drafts: of the probe request; None if the server counts none.
        resolved: of `read_configuration`.
        address: the server's.
        has_totals: whether the server's counters know drafts.

    Returns:
        What remains the user's claim, and notes on what the server lacks.

    Raises:
        ConfigError: it drafts otherwise, or not at all, or took the draft for one of another method.
    """
    drafting = _section(resolved, "speculative_config")
    if not isinstance(config.spec, DraftingSpec):
        if drafts is not None or has_totals or drafting:
            raise ConfigError(f"spec=none: the server at {address} drafts; start one without speculation")
        return (), ()
    if drafts is None and not has_totals:
        raise ConfigError(f"spec={config.spec.name}: the server at {address} does not draft")
    length = draft_length(config.spec)
    told = drafts.num_spec_tokens if drafts is not None else drafting.get("num_speculative_tokens")
    if told is not None and told != length:
        raise ConfigError(f"spec.draft_length={length}: the server drafts {told} tokens; set spec.draft_length={told}")
    claimed = ["spec.draft_length"] if told is None else []
    if drafting:
        vllm_arguments.check_batch_sizes(config.spec, drafting)
    elif config.spec.draft_length_by_batch_size is not None:
        claimed.append("spec.draft_length_by_batch_size")
    if "method" in drafting:
        vllm_arguments.check_resolved_method(config.spec.name, drafting["method"])
    else:
        claimed.append("spec")
    is_cpu = _section(resolved, "device_config").get("device") == "cpu"
    vllm_arguments.check_acceptance_of_drafts(drafting, is_cpu=is_cpu, runner=None)
    notes = []
    if drafting.get("rejection_sample_method") == "block":
        notes.append(
            "rejection_sample_method=block: vLLM's model runner V1 accepts by the standard method under this name, and "
            "the server does not tell which runner it has"
        )
    if drafts is None:
        notes.append(
            "the server counts drafts in total only; start it with --per-request-spec-decode-metrics detailed (vLLM "
            "0.29 or later) for the counts of each request"
        )
    return tuple(claimed), tuple(notes)


def _setting(argument: str) -> str:
    """Returns what decides an argument: a setting of the experiment, or the project itself."""
    if argument in vllm_arguments.FIXED:
        return f"{argument}={vllm_arguments.FIXED[argument]}"
    return vllm_arguments.SETTINGS.get(argument, f"engine.extra_args.{argument}")


def _section(resolved: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = resolved.get(name)
    return found if isinstance(found, Mapping) else {}


def _with_bare_dtypes(value: Any) -> Any:
    """Returns the server's configuration with torch's dtypes by their names alone, as settings have them."""
    if isinstance(value, dict):
        return {name: _with_bare_dtypes(item) for name, item in value.items()}
    return value.removeprefix("torch.") if isinstance(value, str) else value
