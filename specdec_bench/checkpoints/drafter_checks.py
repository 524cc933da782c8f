"""Refuses a draft of another kind than the method's, and more drafted tokens than it was made for.

An engine given the wrong kind fails while it loads weights, or runs as something else than the run's label says.
"""

from typing import Any

from specdec_bench.checkpoints.drafter_kind import (
    KINDS,
    WHOLE_MODELS,
    Drafter,
    block_size,
    has_mtp_layers,
    identify_drafter,
    mask_token,
    num_medusa_heads,
)
from specdec_bench.checkpoints.facts import CheckpointFacts
from specdec_bench.checkpoints.weights import Weights
from specdec_bench.config.schema.spec import (
    CheckpointSpec,
    DFlashSpec,
    DSparkSpec,
    Eagle3Spec,
    MedusaSpec,
    MTPSpec,
    SpecConfig,
)
from specdec_bench.errors import ConfigError

_MASK_KEYS = "mask_token_id, pard_token or ptd_token_id"


def check_drafter(spec: SpecConfig, path: str, facts: CheckpointFacts, weights: Weights | None) -> None:
    """Refuses a draft that is certainly for another method, or that cannot draft as `spec` asks.

    Takes a draft of a kind that it does not recognize: the engine decides. Takes PARD and P-EAGLE drafters without
    `spec.parallel_drafting` too: vLLM then drafts token by token with them, as the label says, and a warning of the
    summary tells that they were trained for something else.

    Args:
        spec: the method.
        path: of the draft, for messages.
        facts: of the draft.
        weights: of the draft; None if they are not known (not fetched yet).

    Raises:
        ConfigError: naming what the folder is, by which sign, and the method that it is for.
    """
    tensors = {} if weights is None else weights.tensors
    drafter = identify_drafter(facts.config, tensors)
    if isinstance(spec, MTPSpec):
        _check_mtp_draft(spec, path, drafter, facts.config, tensors)
    elif drafter is not None and spec.name not in KINDS[drafter.kind].methods:
        raise ConfigError(f"{_subject(spec, path)} is {_describe(drafter)}; {_advise(drafter)}")
    if getattr(spec, "parallel_drafting", False):
        _check_parallel(spec, path, drafter, facts.config, tensors)
    if isinstance(spec, MedusaSpec) and (heads := num_medusa_heads(facts.config, tensors)) is not None:
        _check_length(spec, heads, f"{path} has {heads} Medusa heads, one for each drafted token")
    if isinstance(spec, DSparkSpec) and (size := block_size(facts.config)) is not None:
        _check_length(spec, size, f"{path} drafts blocks of block_size={size} tokens")
    if isinstance(spec, DFlashSpec) and (size := block_size(facts.config)) is not None:
        _check_length(spec, size - 1, f"{path} drafts blocks of block_size={size} tokens, one of them accepted before")


def check_target(path: str, facts: CheckpointFacts) -> None:
    """Refuses a target whose config.json says that it is a drafter.

    Given a drafter of the speculators library as its model, vLLM would run the drafter's own target, and draft.

    Raises:
        ConfigError: naming the sign.
    """
    drafter = identify_drafter(facts.config, {})
    if drafter is not None and drafter.kind not in WHOLE_MODELS:
        raise ConfigError(
            f"model.path={path} is {_describe(drafter)}, no model by itself; pass it as spec.draft.path, and its "
            "target as model.path"
        )


def check_mtp_target(path: str, facts: CheckpointFacts, weights: Weights | None) -> None:
    """Refuses a target without multi-token-prediction layers for a method that drafts with them.

    Raises:
        ConfigError: the target certainly has none.
    """
    if weights is None:
        return
    drafter = identify_drafter(facts.config, weights.tensors)
    if drafter is not None and drafter.kind in WHOLE_MODELS and not has_mtp_layers(facts.config, weights.tensors):
        raise ConfigError(
            f"spec=mtp: model.path={path} has no multi-token-prediction layers; choose a model that has them, or "
            "another method"
        )


def _check_mtp_draft(
    spec: MTPSpec, path: str, drafter: Drafter | None, config: dict[str, Any], tensors: dict[str, Any]
) -> None:
    """Refuses a draft without multi-token-prediction layers, and layers that cannot draft by themselves.

    vLLM recognizes layers that are a checkpoint of their own by a model_type that ends in `_mtp`.

    Raises:
        ConfigError: see above.
    """
    if drafter is None:
        return
    if drafter.kind in WHOLE_MODELS:
        if not has_mtp_layers(config, tensors):
            raise ConfigError(
                f"{_subject(spec, path)} is {_describe(drafter)} without multi-token-prediction layers; "
                f"{_advise(drafter)}"
            )
    elif drafter.kind != "mtp":
        raise ConfigError(f"{_subject(spec, path)} is {_describe(drafter)}; {_advise(drafter)}")
    elif tensors and all("mtp" in name for name in tensors) and not str(config.get("model_type")).endswith("mtp"):
        raise ConfigError(
            f"{_subject(spec, path)} is {_describe(drafter)} without their model, which cannot draft; pass the "
            "checkpoint that holds both as model.path, and leave spec.draft.path null"
        )


def _check_parallel(
    spec: SpecConfig, path: str, drafter: Drafter | None, config: dict[str, Any], tensors: dict[str, Any]
) -> None:
    """Refuses parallel drafting with a draft that lacks what engines need for it.

    Raises:
        ConfigError: config.json names no mask token, or an EAGLE head has no hidden state for it.
    """
    is_head = isinstance(spec, Eagle3Spec)
    what = "a draft" if drafter is None else _describe(drafter)
    fix = f"choose a {'P-EAGLE head' if is_head else 'PARD drafter'}, or leave spec.parallel_drafting false"
    if mask_token(config) is None:
        raise ConfigError(
            f"spec.parallel_drafting=true: spec.draft.path={path} is {what}, not trained for it: its config.json names "
            f"no mask token ({_MASK_KEYS}); {fix}"
        )
    if is_head and tensors and not any(name.endswith("mask_hidden") for name in tensors):
        raise ConfigError(
            f"spec.parallel_drafting=true: spec.draft.path={path} is {what}, not trained for it: it has no tensor "
            f"mask_hidden; {fix}"
        )


def _check_length(spec: CheckpointSpec, most: int, reason: str) -> None:
    if spec.draft_length > most:
        raise ConfigError(
            f"spec.draft_length={spec.draft_length}: spec.draft.path={reason}; pass at most spec.draft_length={most}"
        )


def _subject(spec: SpecConfig, path: str) -> str:
    return f"spec={spec.name}: spec.draft.path={path}"


def _describe(drafter: Drafter) -> str:
    return f"{KINDS[drafter.kind].title} ({drafter.sign})"


def _advise(drafter: Drafter) -> str:
    methods = [f"spec={name}" for name in KINDS[drafter.kind].methods]
    return f"use {' or '.join(methods)}, or another spec.draft.path" if methods else "choose another spec.draft.path"
