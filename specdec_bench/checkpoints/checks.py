"""Refuses settings that checkpoints' files rule out, before any process starts."""

from pathlib import Path

from specdec_bench.checkpoints.drafter_checks import check_drafter, check_mtp_target, check_target
from specdec_bench.checkpoints.facts import CheckpointFacts, read_facts
from specdec_bench.checkpoints.files import is_there
from specdec_bench.checkpoints.folders import refuse_missing
from specdec_bench.checkpoints.head_name import check_head
from specdec_bench.checkpoints.proposer import check_proposer
from specdec_bench.checkpoints.weights import Weights, read_weights
from specdec_bench.config.checkpoints import BUNDLED, draft_checkpoint, resolve
from specdec_bench.config.schema.experiment import ExperimentConfig, draft_length
from specdec_bench.config.schema.spec import CustomClassSpec, MTPSpec
from specdec_bench.config.support import ENGINES
from specdec_bench.errors import ConfigError


def local_folder(path: str, key: str) -> Path | None:
    """Returns the checkpoint's folder, or None for a hub id, which only the engine can resolve.

    Args:
        path: a folder, a hub id `owner/name`, `bundled:NAME`, `fetched:NAME` or `trained:NAME`.
        key: the setting it came from, for the message.

    Raises:
        ConfigError: the path names a folder that does not exist or holds no checkpoint, or a fetched or trained
            checkpoint that is not on this machine.
    """
    folder = Path(resolve(path))
    if folder.is_dir():
        if not is_there(folder / "config.json"):
            raise ConfigError(f"{key}={path}: the folder holds no config.json; give a checkpoint's folder")
        return folder
    refuse_missing(path, key)
    is_hub_id = path.count("/") == 1 and not path.startswith((".", "/", "~", BUNDLED))
    if is_hub_id or (path.count("/") == 0 and path and not path.startswith((".", "~", BUNDLED))):
        return None
    raise ConfigError(f"{key}={path}: no such folder; give a checkpoint's folder or a hub id owner/name")


def check_checkpoints(config: ExperimentConfig) -> None:
    """Refuses missing folders, lengths and ids that the target lacks, and drafts that do not fit the target.

    Checks only local folders; `specdec_bench.runner.preflight` checks checkpoints that must be fetched first.

    Raises:
        ConfigError: see above; or a checkpoint's file exists but cannot be read.
    """
    if not ENGINES[config.engine.name].has_checkpoints:
        check_lengths(config, config.model.max_seq_len, config.engine.vocab_size)  # type: ignore[attr-defined]
        return
    if isinstance(config.spec, CustomClassSpec):
        check_proposer(config.spec.proposer or "")
    facts: dict[str, CheckpointFacts] = {}
    if (folder := local_folder(config.model.path, "model.path")) is not None:
        facts["target"] = read_facts(folder)
    if config.model.tokenizer is not None:
        tokenizer = Path(resolve(config.model.tokenizer))
        if tokenizer.is_dir():
            facts["tokenizer"] = read_facts(tokenizer)
        elif config.model.tokenizer.startswith((".", "/", "~", BUNDLED)):
            raise ConfigError(f"model.tokenizer={config.model.tokenizer}: no such folder; give a tokenizer's folder")
    draft = draft_checkpoint(config)
    if draft is not None and (folder := local_folder(draft.path, "spec.draft.path")) is not None:
        facts["draft"] = read_facts(folder)
    check_kinds(config, facts)
    check_facts(config, facts)


def check_kinds(config: ExperimentConfig, facts: dict[str, CheckpointFacts]) -> None:
    """Refuses a target that is no model, and a draft of another kind than the method's.

    The tensors of checkpoints on the hub are not here yet, so their config.json alone decides.

    Args:
        config: the experiment.
        facts: by role, of the checkpoints whose files are here.

    Raises:
        ConfigError: see above; or a folder's weights are damaged.
    """
    target, draft, checkpoint = facts.get("target"), facts.get("draft"), draft_checkpoint(config)
    if target is not None:
        check_target(config.model.path, target)
        if isinstance(config.spec, MTPSpec) and checkpoint is None:
            check_mtp_target(config.model.path, target, _local_weights(config.model.path))
    if draft is not None and checkpoint is not None:
        weights = _local_weights(checkpoint.path)
        check_drafter(config.spec, checkpoint.path, draft, weights)
        if not ENGINES[config.engine.name].takes_plain_heads:
            tensors = () if weights is None else weights.tensors
            is_folder = Path(resolve(checkpoint.path)).is_dir()
            check_head(config.spec, checkpoint.path, draft.config, tensors, config.engine.name, is_folder=is_folder)


def _local_weights(path: str) -> Weights | None:
    folder = Path(resolve(path))
    return read_weights(folder) if folder.is_dir() else None


def check_facts(config: ExperimentConfig, facts: dict[str, CheckpointFacts]) -> None:
    """Refuses settings beyond the target's limits, and a draft with another vocabulary.

    Args:
        config: the experiment.
        facts: by role, of the local checkpoints.

    Raises:
        ConfigError: see above.
    """
    target, draft, checkpoint = facts.get("target"), facts.get("draft"), draft_checkpoint(config)
    if target is not None:
        check_lengths(
            config,
            None if target.context_length is None else target.context_length.value,
            None if target.vocab_size is None else target.vocab_size.value,
        )
    if target is not None and draft is not None and checkpoint is not None:
        check_vocabulary(
            checkpoint.path,
            None if target.vocab_size is None else target.vocab_size.value,
            None if draft.vocab_size is None else draft.vocab_size.value,
            0 if checkpoint.allow_vocabulary_differences else vocabulary_differences(target, draft),
        )


def check_lengths(config: ExperimentConfig, context_length: int | None, vocab_size: int | None) -> None:
    """Refuses a context, a draft and stop tokens beyond the target's limits; a limit is None if not stated.

    Raises:
        ConfigError: see above.
    """
    wanted, num_drafts = config.model.max_seq_len, draft_length(config.spec)
    if context_length is not None:
        if wanted is not None and wanted > context_length:
            raise ConfigError(
                f"model.max_seq_len={wanted}: the model has positions for {context_length} tokens; pass at most that, "
                "or null"
            )
        limit = min(wanted or context_length, context_length)
        if num_drafts is not None and num_drafts >= limit:
            raise ConfigError(
                f"spec.draft_length={num_drafts}: must be below the {limit} tokens that a request can hold"
            )
    for token_id in config.sampling.stop_token_ids if vocab_size is not None else []:
        if token_id >= vocab_size:  # type: ignore[operator]
            raise ConfigError(
                f"sampling.stop_token_ids={token_id}: the model's vocabulary has {vocab_size} tokens, ids 0 to "
                f"{vocab_size - 1}"  # type: ignore[operator]
            )


def vocabulary_differences(target: CheckpointFacts, draft: CheckpointFacts) -> int:
    """Returns how many entries (token and id) only one of two vocabularies has; 0 if either is unknown."""
    if not target.token_ids or not draft.token_ids:
        return 0
    return len(set(target.token_ids.items()) ^ set(draft.token_ids.items()))


def check_vocabulary(draft_path: str, target_size: int | None, draft_size: int | None, num_differing: int = 0) -> None:
    """Refuses a draft whose token ids differ in meaning from the target's.

    Raises:
        ConfigError: the sizes differ, or the same ids stand for different tokens.
    """
    fix = "the draft must have the target's vocabulary; choose another spec.draft.path"
    if target_size is not None and draft_size is not None and target_size != draft_size:
        raise ConfigError(
            f"spec.draft.path={draft_path}: its vocabulary has {draft_size} tokens, the target's {target_size}; {fix}"
        )
    if num_differing:
        raise ConfigError(
            f"spec.draft.path={draft_path}: {num_differing} entries of its vocabulary differ from the target's; {fix}, "
            "or pass spec.draft.allow_vocabulary_differences=true if they do not matter"
        )
