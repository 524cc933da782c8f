"""Checks that a checkpoint's model type is installed. Needs transformers, and loads no weights."""

import importlib
from collections.abc import Sequence
from typing import Any

from specdec_bench.checkpoints.facts import CheckpointFacts
from specdec_bench.checkpoints.one_line import one_line
from specdec_bench.errors import ConfigError


def check_model_type(path: str, facts: CheckpointFacts, registries: Sequence[str], trust_remote_code: bool) -> None:
    """Refuses a type of model that neither transformers nor the engine knows.

    Args:
        path: the checkpoint as the user named it.
        facts: what its files say.
        registries: where the engine lists the types that it adds to transformers', as module:name.
        trust_remote_code: whether the checkpoint may bring the code for its type.

    Raises:
        ConfigError: naming the type.
    """
    import transformers

    name = None if facts.model_type is None else facts.model_type.value
    if name is None or name in transformers.CONFIG_MAPPING or (trust_remote_code and facts.config.get("auto_map")):
        return
    for registry in registries:
        own = _registered(registry)
        if own is None or name in own:  # a release that keeps them elsewhere refuses unknown types itself
            return
    raise ConfigError(
        f"{facts.folder / 'config.json'}: transformers {transformers.__version__} knows no model_type={name}"
        + ("; pass model.trust_remote_code=true if you trust its code" if facts.config.get("auto_map") else "")
        + f"; use a release that does, or another checkpoint than {path}"
    )


def _registered(registry: str) -> Any:
    module, _, attribute = registry.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        return None


def check_loadable(facts: CheckpointFacts, trust_remote_code: bool) -> None:
    """Refuses a configuration that transformers cannot make a model of.

    Raises:
        ConfigError: in transformers' words.
    """
    import transformers

    with one_line(f"{facts.folder / 'config.json'}: transformers cannot use it"):
        transformers.AutoConfig.from_pretrained(str(facts.folder), trust_remote_code=trust_remote_code)
