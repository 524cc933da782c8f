"""Reads what an SGLang server runs, and compares it with the experiment."""

import os
from collections.abc import Mapping
from typing import Any

from specdec_bench.config.checkpoints import draft_checkpoint
from specdec_bench.config.schema.engine import SGLangServerEngine
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.config.schema.spec import DraftingSpec
from specdec_bench.engines.readback import differences
from specdec_bench.engines.server.http import Client
from specdec_bench.engines.server.identity import ServedModel, is_same_name, is_same_path
from specdec_bench.engines.sglang import arguments as sglang_arguments
from specdec_bench.errors import ConfigError, EngineError
from specdec_bench.records.manifest import Difference, EngineDescription

SERVER_INFO = ("/server_info", "/get_server_info")
"""The route's names, newest first."""
NOT_ARCHIVED = (
    *("api_key", "admin_api_key", "ssl_keyfile_password", "launch_command"),  # the last holds the key too
    *("internal_states", "kv_events", "startup_time"),  # of this moment
)
NOT_COMPARED = (
    *("skip_tokenizer_init", "log_level", "random_seed", "enable_metrics", "incremental_streaming_output"),
    "context_length",  # `find_model` compares it with what is in force
)
"""Arguments that a server which runs already may have otherwise: no metric depends on them."""


async def read_configuration(client: Client) -> dict[str, Any]:
    """Returns the server's resolved arguments, and its version as `sglang`.

    Raises:
        ConfigError: the server wants a key.
        EngineError: it does not tell.
    """
    for route in SERVER_INFO:
        answer = await client.request("GET", route)
        if answer.status == 401:
            raise ConfigError(
                f"engine.url={client.url}: the server wants a key; name its variable in engine.api_key_env"
            )
        told = answer.json() if answer.status == 200 else None
        if isinstance(told, dict) and "model_path" in told:
            kept = {name: value for name, value in told.items() if name not in (*NOT_ARCHIVED, "version")}
            return {"sglang": told.get("version"), **kept}
    raise EngineError(f"{client.url}: does not answer {SERVER_INFO[0]} as SGLang's server does")


def algorithms_of(config: ExperimentConfig, told: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the algorithms of a server that runs already, as far as the experiment's method can be one of them.

    Raises:
        ConfigError: the server drafts by another method, or not at all.
    """
    runs, url = told.get("speculative_algorithm"), told_url(config)
    if not isinstance(config.spec, DraftingSpec):
        if runs:
            raise ConfigError(f"spec=none: the server at {url} drafts by {runs}; start one without speculation")
        return ()
    names = sglang_arguments.ALGORITHMS[config.spec.name]
    if not runs:
        raise ConfigError(f"spec={config.spec.name}: the server at {url} does not draft")
    if str(runs).upper() not in names:
        raise ConfigError(f"spec={config.spec.name}: the server at {url} drafts by {runs}; choose that method")
    return (str(runs).upper(),)


def told_url(config: ExperimentConfig) -> str | None:
    """Returns the address of the server that runs already."""
    assert isinstance(config.engine, SGLangServerEngine)
    return config.engine.url_for(config.spec)


def describe(
    config: ExperimentConfig, arguments: Mapping[str, Any], model: ServedModel, told: Mapping[str, Any]
) -> EngineDescription:
    """Returns what the server runs.

    Args:
        config: the experiment.
        arguments: that it was started with, or that the experiment would start it with.
        model: of `find_model`.
        told: of `read_configuration`.

    Raises:
        ConfigError: a server that runs already differs from the experiment.
    """
    engine, url = config.engine, told_url(config)
    assert isinstance(engine, SGLangServerEngine)
    compared, claimed = arguments, list[str]()
    if url is not None:
        untold = [name for name in arguments if _is_untold(name, told)]
        compared = {name: value for name, value in arguments.items() if name not in (*untold, *NOT_COMPARED)}
        settings = [sglang_arguments.SETTINGS.get(name, f"engine.extra_args.{name}") for name in untold]
        claimed = [
            *(["model.path"] if model.is_claimed else []),
            *_claimed_draft(config, told),
            *dict.fromkeys(settings),
        ]
    found = differences(sglang_arguments.asked_and_resolved(compared, told))
    if url is not None and found:
        raise ConfigError(_refusal(found[0], config, url))
    num_workers = engine.tensor_parallel_size * engine.pipeline_parallel_size * engine.data_parallel_size
    return EngineDescription(
        arguments=dict(arguments) if url is None else {"url": url},
        resolved=dict(told),
        # Its scheduler reserves two of the context's positions and shortens a longer reply silently.
        max_seq_len=None if model.max_seq_len is None else model.max_seq_len - 2,
        num_accelerators=0 if told.get("device") == "cpu" else num_workers,
        reproducible=False,
        synthetic=None if url is not None else sglang_arguments.synthetic_stamp(config, os.environ),
        is_elsewhere=url is not None,
        differences=found,
        claimed=tuple(claimed),
    )


def _is_untold(name: str, told: Mapping[str, Any]) -> bool:
    """Whether the server leaves open with what value of this argument it runs."""
    if name in NOT_COMPARED:
        return False
    return name not in told or (told[name] in (None, "auto") and not name.startswith("speculative_"))


def _claimed_draft(config: ExperimentConfig, told: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the draft's setting, if the server knows a draft of that name under another path.

    Raises:
        ConfigError: its draft is another one.
    """
    draft = draft_checkpoint(config)
    if draft is None:
        return ()
    path = draft.path
    drafts_with = told.get("speculative_draft_model_path")
    names = [str(drafts_with)] if drafts_with else []
    if not is_same_name(path, names):
        raise ConfigError(f"spec.draft.path={path}: the server drafts with {drafts_with}; choose that draft")
    return () if is_same_path(path, names) else ("spec.draft.path",)


def _refusal(found: Difference, config: ExperimentConfig, url: str) -> str:
    """Returns what to do about an argument that the server has otherwise."""
    argument, spec = found.name.removeprefix("engine.extra_args."), config.spec
    if argument in sglang_arguments.FIXED:
        return f"engine.url={url}: the server runs with {argument}={found.got}; start it with {argument}={found.asked}"
    is_derived = isinstance(spec, DraftingSpec) and spec.num_draft_tokens is None
    is_length = found.name == "spec.num_draft_tokens" and is_derived
    if is_length and isinstance(found.got, int) and isinstance(found.asked, int):
        length = found.got - 1  # the rest is the token that is verified beside the drafts
        return (
            f"spec.draft_length={found.asked - 1}: the server at {url} drafts {length}; set spec.draft_length={length}"
        )
    runs = f"the server at {url} runs with {found.got}"
    return f"{found.name}={found.asked}: {runs}; set it to that, or start another server"
