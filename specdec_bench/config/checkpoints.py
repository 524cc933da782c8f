"""Which checkpoints an experiment names. `specdec_bench.checkpoints` reads their content."""

from pathlib import Path
from typing import NamedTuple

from specdec_bench import hub
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.config.schema.spec import CheckpointSpec, MTPSpec
from specdec_bench.config.support import ENGINES
from specdec_bench.errors import ConfigError

BUNDLED = "bundled:"
FETCHED = "fetched:"
TRAINED = "trained:"
ASSETS = Path(__file__).resolve().parent.parent / "assets"


def resolve(path: str) -> str:
    """Returns the path to pass to a loader: a bundled, fetched or trained checkpoint's folder, or what was given."""
    if path.startswith(BUNDLED):
        return str(ASSETS / path.removeprefix(BUNDLED))
    if path.startswith(FETCHED):
        return str(hub.cache_folder() / "models" / path.removeprefix(FETCHED))
    if path.startswith(TRAINED):
        return str(hub.cache_folder() / "trained" / path.removeprefix(TRAINED))
    return str(Path(path).expanduser())


class Draft(NamedTuple):
    """A draft's checkpoint."""

    path: str
    revision: str | None
    allow_vocabulary_differences: bool = False


def draft_checkpoint(config: ExperimentConfig) -> Draft | None:
    """Returns the draft's checkpoint: the spec's, or else the model's known one. None without a draft.

    Raises:
        ConfigError: the method needs a draft and none is known.
    """
    spec = config.spec
    if not isinstance(spec, CheckpointSpec):
        return None
    draft = spec.draft if spec.draft.path is not None else config.model.drafts.get(spec.draft_key, spec.draft)
    if draft.path is None and isinstance(spec, MTPSpec):
        return None  # the target's own layers
    if draft.path is None:
        asked = f"spec={spec.name}" + (" spec.parallel_drafting=true" if spec.draft_key != spec.name else "")
        raise ConfigError(
            f"{asked}: model={config.model.name} names no draft for it; pass spec.draft.path=FOLDER_OR_HUB_ID"
        )
    allowed = draft.allow_vocabulary_differences or spec.draft.allow_vocabulary_differences
    return Draft(draft.path, draft.revision, allowed)


def checkpoint_roles(config: ExperimentConfig) -> dict[str, tuple[str, str | None]]:
    """Returns the path and revision of each checkpoint in use, by role: target, tokenizer, draft."""
    if not ENGINES[config.engine.name].has_checkpoints:
        return {}
    roles = {"target": (config.model.path, config.model.revision)}
    if config.model.tokenizer is not None:
        roles["tokenizer"] = (config.model.tokenizer, config.model.revision)
    if (draft := draft_checkpoint(config)) is not None:
        roles["draft"] = (draft.path, draft.revision)
    return roles
