"""Finds the experiment's checkpoints among those that a server says it runs."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from specdec_bench.config.checkpoints import resolve
from specdec_bench.config.schema.model import ModelConfig
from specdec_bench.engines.server.http import Client
from specdec_bench.errors import ConfigError, EngineError


class ServedModel(NamedTuple):
    """The model that requests name."""

    name: str
    """At the server."""
    max_seq_len: int | None
    is_claimed: bool
    """Whether the server knows it under another path than the experiment."""


async def find_model(
    client: Client, model: ModelConfig, started_as: str | None, more_names: Collection[str] = ()
) -> ServedModel:
    """Finds the experiment's model at the server.

    Args:
        client: of the server.
        model: the experiment's.
        started_as: the name that a server which the run started has for it; None for one that runs already.
        more_names: what else the server calls the only model that it serves.

    Raises:
        ConfigError: the server wants a key, serves another model, or another context length.
        EngineError: it does not answer as such a server does.
    """
    answer = await client.request("GET", "/v1/models")
    if answer.status == 401:
        raise ConfigError(f"engine.url={client.url}: the server wants a key; name its variable in engine.api_key_env")
    told = answer.json() if answer.status == 200 else None
    models = told.get("data") if isinstance(told, dict) else None
    if not isinstance(models, list) or not all(isinstance(served, dict) and "id" in served for served in models):
        raise EngineError(f"{client.url}: does not answer /v1/models as such a server does")
    if started_as is not None:
        same = [served for served in models if served["id"] == started_as]
        if not same:
            raise EngineError(f"another server than the one that was started answers at {client.url}")
        is_claimed = False
    else:
        same, is_claimed = _same_model(models, model.path, more_names)
    found = same[0]
    length: int | None = found.get("max_model_len")
    if None not in (model.max_seq_len, length) and model.max_seq_len != length:
        raise ConfigError(f"model.max_seq_len={model.max_seq_len}: the server's is {length}; set it to that")
    return ServedModel(str(found["id"]), length, is_claimed)


def is_same_path(asked: str, told: Collection[str]) -> bool:
    """Whether the server names the checkpoint by the experiment's path."""
    return bool({asked, resolve(asked)} & set(told))


def is_same_name(asked: str, told: Collection[str]) -> bool:
    """Whether the last parts of the paths agree: then the user claims that both are the same checkpoint."""
    return Path(asked).name.lower() in {Path(name).name.lower() for name in told}


def _same_model(
    models: Sequence[Mapping[str, Any]], path: str, more_names: Collection[str]
) -> tuple[list[Mapping[str, Any]], bool]:
    """Returns the models served under this path, or else under its last part, and whether it is only the latter."""

    def names(served: Mapping[str, Any]) -> set[str]:
        return {str(served[key]) for key in ("id", "root") if served.get(key)} | set(more_names)

    if same := [served for served in models if is_same_path(path, names(served))]:
        return same, False
    if same := [served for served in models if is_same_name(path, names(served))]:
        return same, True
    others = ", ".join(next(iter(more_names), str(served.get("root") or served["id"])) for served in models)
    raise ConfigError(f"model.path={path}: the server serves {others}; choose that model")
