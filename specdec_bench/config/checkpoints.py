"""Where a checkpoint is, and the little that must be known of it before any weights load."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from specdec_bench.config.schema import (
    CheckpointSpec,
    DraftModelSpec,
    Eagle3Spec,
    EagleSpec,
    ExperimentConfig,
    MTPSpec,
    SpecConfig,
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
    """Refuses missing folders, and a draft of another kind or vocabulary, as far as local files tell.

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
    if draft_folder is not None:
        check_draft_kind(config.spec, draft.path, draft_folder)
    if target is not None and draft_folder is not None:
        check_vocabulary(
            draft.path,
            _vocabulary_size(read_json(target / "config.json")),
            _vocabulary_size(read_json(draft_folder / "config.json")),
            _token_ids(target),
            _token_ids(draft_folder),
        )


def check_draft_kind(spec: SpecConfig, draft_path: str, folder: Path) -> None:
    """Refuses an EAGLE head as a draft model, and a whole model as an EAGLE head, where either is certain.

    Raises:
        ConfigError: naming what the folder holds and the method that it is for.
    """
    config, names = read_json(folder / "config.json"), tensor_names(folder)
    sign = _eagle_sign(config, names)
    if isinstance(spec, DraftModelSpec) and sign is not None:
        method = "eagle3" if re.search("eagle3|peagle", sign, re.IGNORECASE) else "eagle or spec=eagle3"
        raise ConfigError(
            f"spec={spec.name}: spec.draft.path={draft_path} is an EAGLE head ({sign}), which cannot draft by itself; "
            f"use spec={method}, or another spec.draft.path"
        )
    # Many heads call themselves a plain LlamaForCausalLM: it is the layer that fuses hidden states that they all have,
    # but those that say how they do without.
    says_nothing = "eagle" not in json.dumps(config).lower() and config.get("draft_vocab_size") is None
    architectures = [str(name) for name in config.get("architectures") or []]
    is_causal = bool(architectures) and all(name.endswith("ForCausalLM") for name in architectures)
    if isinstance(spec, EagleSpec | Eagle3Spec) and names and sign is None and says_nothing and is_causal:
        raise ConfigError(
            f"spec={spec.name}: spec.draft.path={draft_path} is a whole model ({', '.join(architectures)}), no EAGLE "
            "head; use spec=draft_model, or another spec.draft.path"
        )


def _eagle_sign(config: dict[str, Any], names: set[str] | None) -> str | None:
    """Returns what shows that a checkpoint is an EAGLE head; None if nothing does."""
    for architecture in map(str, config.get("architectures") or []):
        # Not Eagle2_5_VLForConditionalGeneration, a model in its own right.
        if re.search(r"^P?eagle3?.*(ForCausalLM|Speculator|DraftModel)$|Eagle3?$", architecture, re.IGNORECASE):
            return architecture
    if (kind := config.get("speculators_model_type")) in ("eagle", "eagle3", "peagle"):
        return f"speculators_model_type={kind}"
    fusing = {"fc.weight", "model.fc.weight"}.intersection(names or ())
    return f"tensor {min(fusing)}" if fusing else None


def tensor_names(folder: Path) -> set[str] | None:
    """Returns the names of a checkpoint's tensors; None where no safetensors file tells them."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return set(read_json(index).get("weight_map") or ()) or None
    names: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > path.stat().st_size:  # no safetensors file: the engine will say so
                return None
            try:
                header = json.loads(file.read(length))
            except ValueError:
                return None
        names |= set(header) if isinstance(header, dict) else set()
    return names - {"__metadata__"} or None


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
