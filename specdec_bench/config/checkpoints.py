"""Where a checkpoint is, and the little that must be known of it before any weights load."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from specdec_bench.config.schema import (
    CheckpointSpec,
    ExperimentConfig,
    MTPSpec,
    SyntheticEngine,
)
from specdec_bench.errors import ConfigError

BUNDLED = "bundled:"
ASSETS = Path(__file__).resolve().parent.parent / "assets"


def local_folder(path: str, key: str) -> Path | None:
    """Returns the checkpoint's folder, or None for a hub id, which only the engine can resolve.

    Args:
        path: a folder, a hub id `owner/name`, or `bundled:NAME`.
        key: the setting it came from, for the message.

    Raises:
        ConfigError: the path names a folder that does not exist or holds no checkpoint.
    """
    folder = ASSETS / path.removeprefix(BUNDLED) if path.startswith(BUNDLED) else Path(path).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ConfigError(f"{key}={path}: the folder holds no config.json; give a checkpoint's folder")
        return folder
    is_hub_id = path.count("/") == 1 and not path.startswith((".", "/", "~", BUNDLED))
    if is_hub_id or (path.count("/") == 0 and path and not path.startswith((".", "~", BUNDLED))):
        return None
    raise ConfigError(f"{key}={path}: no such folder; give a checkpoint's folder or a hub id owner/name")


def resolve(path: str) -> str:
    """Returns what to hand to a loader: the folder of a bundled checkpoint, anything else unchanged."""
    return str(ASSETS / path.removeprefix(BUNDLED)) if path.startswith(BUNDLED) else str(Path(path).expanduser())


class Draft(NamedTuple):
    """A draft's checkpoint."""

    path: str
    revision: str | None


def draft_checkpoint(config: ExperimentConfig) -> Draft | None:
    """Returns the draft's checkpoint, the model's known one where the spec names none; None without a draft.

    Raises:
        ConfigError: the method needs a draft and none is known.
    """
    spec = config.spec
    if not isinstance(spec, CheckpointSpec):
        return None
    draft = spec.draft if spec.draft.path is not None else config.model.drafts.get(spec.name, spec.draft)
    if draft.path is None and isinstance(spec, MTPSpec):
        return None  # the target's own layers
    if draft.path is None:
        raise ConfigError(
            f"spec={spec.name}: model={config.model.name} names no draft for it; pass spec.draft.path=FOLDER_OR_HUB_ID"
        )
    return Draft(draft.path, draft.revision)


def checkpoint_roles(config: ExperimentConfig) -> dict[str, tuple[str, str | None]]:
    """Returns path and revision of every checkpoint that is used, by role: target, tokenizer, draft."""
    if isinstance(config.engine, SyntheticEngine):
        return {}
    roles = {"target": (config.model.path, config.model.revision)}
    if config.model.tokenizer is not None:
        roles["tokenizer"] = (config.model.tokenizer, config.model.revision)
    if (draft := draft_checkpoint(config)) is not None:
        roles["draft"] = (draft.path, draft.revision)
    return roles


def check_checkpoints(config: ExperimentConfig) -> None:
    """Refuses missing folders and a draft of another vocabulary, as far as local files tell.

    Raises:
        ConfigError: see above.
    """
    if isinstance(config.engine, SyntheticEngine):
        return
    target = local_folder(config.model.path, "model.path")
    if config.model.tokenizer is not None:
        tokenizer = Path(resolve(config.model.tokenizer))
        if config.model.tokenizer.startswith((".", "/", "~", BUNDLED)) and not tokenizer.is_dir():
            raise ConfigError(f"model.tokenizer={config.model.tokenizer}: no such folder; give a tokenizer's folder")
    draft = draft_checkpoint(config)
    if draft is None:
        return
    draft_folder = local_folder(draft.path, "spec.draft.path")
    if target is not None and draft_folder is not None:
        check_vocabulary(
            draft.path,
            _vocabulary_size(read_json(target / "config.json")),
            _vocabulary_size(read_json(draft_folder / "config.json")),
            _token_ids(target),
            _token_ids(draft_folder),
        )


def check_vocabulary(
    draft_path: str,
    target_size: int | None,
    draft_size: int | None,
    target_tokens: dict[str, int] | None = None,
    draft_tokens: dict[str, int] | None = None,
) -> None:
    """Refuses a draft whose token ids mean something else than the target's.

    Raises:
        ConfigError: the sizes differ, or the same ids stand for different tokens.
    """
    fix = "the draft must have the target's vocabulary; choose another spec.draft.path"
    if target_size is not None and draft_size is not None and target_size != draft_size:
        raise ConfigError(
            f"spec.draft.path={draft_path}: its vocabulary has {draft_size} tokens, the target's {target_size}; {fix}"
        )
    if target_tokens and draft_tokens and target_tokens != draft_tokens:
        differing = len(set(target_tokens.items()) ^ set(draft_tokens.items()))
        raise ConfigError(
            f"spec.draft.path={draft_path}: {differing} entries of its vocabulary differ from the target's; {fix}"
        )


def read_json(path: Path) -> dict[str, Any]:
    """Returns a checkpoint's JSON file.

    Raises:
        ConfigError: it is not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as JSON ({error}); the checkpoint is damaged") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: holds no JSON object; the checkpoint is damaged")
    return content


def _vocabulary_size(config: dict[str, Any]) -> int | None:
    text = config.get("text_config", config)
    size = text.get("vocab_size")
    return size if isinstance(size, int) else None


def _token_ids(folder: Path) -> dict[str, int] | None:
    """Returns token -> id from tokenizer.json, or None where the format does not list it so."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    tokenizer = read_json(path)
    vocabulary = tokenizer.get("model", {}).get("vocab")
    if not isinstance(vocabulary, dict):
        return None
    added = {entry["content"]: entry["id"] for entry in tokenizer.get("added_tokens", [])}
    return {**vocabulary, **added}
