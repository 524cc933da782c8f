"""Checks in the measuring process before an engine starts: everything that can still be refused is refused here."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import UNSET
from msgspec.structs import asdict, replace

from specdec_bench.checkpoints import chat
from specdec_bench.checkpoints.checks import check_facts, check_kinds, vocabulary_differences
from specdec_bench.checkpoints.drafter_kind import identify_drafter
from specdec_bench.checkpoints.facts import CheckpointFacts, read_facts
from specdec_bench.checkpoints.fingerprint import checkpoint_fingerprint
from specdec_bench.checkpoints.folders import folder_of
from specdec_bench.checkpoints.model_type import check_loadable, check_model_type
from specdec_bench.checkpoints.prompter import Prompter, first_requests
from specdec_bench.checkpoints.proposer import identify_proposer
from specdec_bench.checkpoints.shapes import check_shapes
from specdec_bench.checkpoints.weights import read_weights
from specdec_bench.config.checkpoints import checkpoint_roles, draft_checkpoint, resolve
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.config.schema.spec import CustomClassSpec, DraftModelSpec
from specdec_bench.config.support import ENGINES
from specdec_bench.errors import ConfigError
from specdec_bench.records.checkpoint import Checkpoint, StatedDrafter
from specdec_bench.records.request import Prompt

LOADS_OTHERWISE = ("load_format", "gguf_file", "subfolder", "variant", "hf_overrides", "json_model_override_args")
"""Engine arguments that may load other weights than those that the folder's config.json describes."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A cell whose engine may start."""

    prompter: Prompter
    first_token_ids: list[tuple[int, ...]]
    """Of each prompt's first request."""
    facts: dict[str, CheckpointFacts]
    """By role. Includes checkpoints on the hub, whose weights are not here yet."""


def prepare(config: ExperimentConfig, prompts: Sequence[Prompt]) -> Prepared:
    """Returns the encoded prompts and the checkpoints' facts, all checked.

    Raises:
        ConfigError: a prompt cannot be encoded, no prompt fits the model, or a checkpoint is damaged or does not match
            the others.
    """
    prompter = chat.create(config)
    first_token_ids = first_requests(prompter, prompts)
    keys = {"target": "model.path", "tokenizer": "model.tokenizer", "draft": "spec.draft.path"}
    facts = {
        role: read_facts(folder_of(path, revision, keys[role]))
        for role, (path, revision) in checkpoint_roles(config).items()
    }
    if facts:
        check_kinds(config, facts)
        check_facts(config, facts)
        _check_models(config, facts)
        _check_reach(config, prompts, first_token_ids, facts)
    return Prepared(prompter=prompter, first_token_ids=first_token_ids, facts=facts)


def _check_models(config: ExperimentConfig, facts: dict[str, CheckpointFacts]) -> None:
    """Refuses weights that are missing, damaged or of another model, and models that the engine does not support.

    Raises:
        ConfigError: naming the file and the tensor, or the type of model.
    """
    support, roles = ENGINES[config.engine.name], checkpoint_roles(config)
    loads_otherwise = any(key in LOADS_OTHERWISE for key in config.engine.extra_args)
    for role in ("target", "draft"):
        if role not in facts or loads_otherwise:
            continue
        path, found = roles[role][0], facts[role]
        is_model = role == "target" or isinstance(config.spec, DraftModelSpec)
        if is_model and support.model_types is not None:
            check_model_type(path, found, support.model_types, config.model.trust_remote_code)
            if not support.model_types:  # transformers itself is the engine
                check_loadable(found, config.model.trust_remote_code)
        if Path(resolve(path)).is_dir():
            weights = read_weights(found.folder)
            if weights is None:
                raise ConfigError(f"{found.folder}: holds no weights, as *.safetensors or *.bin; complete the download")
            if is_model:
                check_shapes(found.folder, found.config, weights)


def _check_reach(
    config: ExperimentConfig,
    prompts: Sequence[Prompt],
    first_token_ids: Sequence[tuple[int, ...]],
    facts: dict[str, CheckpointFacts],
) -> None:
    """Refuses a run if no request fits the target, or if a request may exceed the draft's positions.

    Raises:
        ConfigError: naming both lengths.
    """
    target, draft = (facts[role].context_length if role in facts else None for role in ("target", "draft"))
    limits = [limit for limit in (config.model.max_seq_len, target and target.value) if limit]
    limit = min(limits, default=None)
    sampling = config.sampling.max_new_tokens
    new_tokens = [min(sampling, prompt.max_new_tokens or sampling) for prompt in prompts]
    needed = [len(ids) + new for ids, new in zip(first_token_ids, new_tokens, strict=True)]
    if limit is not None and needed and min(needed) > limit:
        raise ConfigError(
            f"sampling.max_new_tokens={sampling}: none of {len(needed)} conversations fits the model's context of "
            f"{limit} tokens, the shortest needs {min(needed)}; lower it, or choose a model with a longer context"
        )
    support, checkpoint = ENGINES[config.engine.name], draft_checkpoint(config)
    if draft is None or checkpoint is None or support.stops_drafting:
        return
    if support.long_draft_variable is not None:
        if os.environ.get(support.long_draft_variable, "").lower() in ("1", "true", "yes", "y", "on", "t"):
            return
        reach = limit or 0
    elif isinstance(config.spec, DraftModelSpec):
        # The length of a later turn is known only when it is reached: it contains all earlier turns and replies.
        reach = max(
            (
                tokens if len(prompt.turns) == 1 or limit is None else limit
                for tokens, prompt in zip(needed, prompts, strict=True)
                if limit is None or tokens <= limit
            ),
            default=0,
        )
    else:  # a head, which has the target's positions
        return
    if reach > draft.value:
        raise ConfigError(
            f"spec.draft.path={checkpoint.path}: the draft has positions for {draft.value} tokens, and a request may "
            f"reach {reach}; pass model.max_seq_len={draft.value}, or another draft"
        )


def fingerprints(config: ExperimentConfig, facts: dict[str, CheckpointFacts], *, of_hub: bool) -> dict[str, Checkpoint]:
    """Returns the manifest's entry for each checkpoint: its files' fingerprint and its facts; also for a user's class.

    Args:
        config: the experiment.
        facts: of `prepare`.
        of_hub: true for checkpoints on the hub, once an engine has loaded them; false for those in folders.
    """
    found: dict[str, Checkpoint] = {}
    for role, (path, revision) in checkpoint_roles(config).items():
        folder = facts[role].folder
        if Path(resolve(path)).is_dir() is of_hub:
            continue
        weights = None if role == "tokenizer" else _weights(folder)
        is_draft = role == "draft" and "target" in facts
        found[role] = Checkpoint(
            **asdict(checkpoint_fingerprint(path, folder, revision)),
            facts=replace(
                facts[role].summary(), weights=weights, drafter=_drafter(facts[role]) if role == "draft" else None
            ),
            vocabulary_differences=vocabulary_differences(facts["target"], facts["draft"]) if is_draft else UNSET,
        )
    if isinstance(config.spec, CustomClassSpec) and not of_hub:
        found["proposer"] = identify_proposer(config.spec.proposer or "")
    return found


def _drafter(facts: CheckpointFacts) -> StatedDrafter | None:
    """Returns the manifest's entry for the kind of a draft."""
    try:
        weights = read_weights(facts.folder)
    except ConfigError:  # a part of what a hub has, see _weights
        weights = None
    found = identify_drafter(facts.config, {} if weights is None else weights.tensors)
    return None if found is None else StatedDrafter(kind=found.kind, sign=found.sign)


def _weights(folder: Path) -> dict[str, Any] | None:
    """Returns the manifest's entry for a folder's weights.

    Weights that need checking have been checked before. Others may be only a part of the folder's index (a
    checkpoint in two formats, of which one was fetched). The entry then says what is wrong with the rest.
    """
    try:
        weights = read_weights(folder)
    except ConfigError as error:
        return {"error": str(error)}
    return None if weights is None else weights.summary()
