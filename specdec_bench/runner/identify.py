"""A cell's identity, from the content of what it uses."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from specdec_bench.archive.redact import redact, redact_text
from specdec_bench.checkpoints.fingerprint import checkpoint_fingerprint
from specdec_bench.checkpoints.proposer import identify_proposer
from specdec_bench.config import identity
from specdec_bench.config.checkpoints import checkpoint_roles, resolve
from specdec_bench.config.compose import to_tree
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.config.schema.spec import CustomClassSpec
from specdec_bench.records.prompts_hash import prompts_fingerprint
from specdec_bench.records.request import Prompt


class Identity(NamedTuple):
    """The ids of one cell and its prompts."""

    cell_id: str
    baseline_id: str
    prompts_sha256: str


def identify(config: ExperimentConfig, prompts: Sequence[Prompt]) -> Identity:
    """Returns the ids that distinguish this cell from others.

    A checkpoint in a folder is identified by its content. One on the hub is identified by its name and the requested
    revision, since its files may not be here yet.

    Raises:
        ArchiveError: a checkpoint's files cannot be read.
    """
    tree, prompts_sha256 = redact(to_tree(config)), prompts_fingerprint(prompts)
    checkpoints = {role: _content(path, revision) for role, (path, revision) in checkpoint_roles(config).items()}
    if isinstance(config.spec, CustomClassSpec):
        checkpoints["proposer"] = identify_proposer(config.spec.proposer or "").fingerprint
    return Identity(
        cell_id=identity.cell_id(tree, prompts_sha256, checkpoints),
        baseline_id=identity.baseline_id(tree, prompts_sha256, checkpoints),
        prompts_sha256=prompts_sha256,
    )


@functools.cache
def _content(path: str, revision: str | None) -> str:
    folder = resolve(path)
    if Path(folder).is_dir():
        return checkpoint_fingerprint(path, folder).fingerprint
    return f"hub:{redact_text(path)}@{revision}"
