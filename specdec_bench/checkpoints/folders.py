"""Finds a checkpoint's files on this machine. Fetches those of the hub, without their weights."""

from pathlib import Path

from specdec_bench import hub
from specdec_bench.config.checkpoints import FETCHED, TRAINED, resolve
from specdec_bench.errors import ConfigError, first_line

_STATEMENTS = ("*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken", "*.py")
"""All files of a checkpoint except weights and pictures."""


def refuse_missing(path: str, key: str) -> None:
    """Says which command makes a fetched or trained checkpoint whose folder is not here. Lets other paths pass.

    Raises:
        ConfigError: see above.
    """
    if path.startswith(FETCHED):
        name = path.removeprefix(FETCHED)
        raise ConfigError(f"{key}={path}: is not on this machine; run specdec-bench fetch model {name}")
    if path.startswith(TRAINED):
        raise ConfigError(
            f"{key}={path}: is not on this machine; run python training/train_smollm2.py --questions FOLDER, which "
            "trains it in minutes on a GPU, or pass a folder"
        )


def folder_of(path: str, revision: str | None, key: str = "model.path") -> Path:
    """Returns the folder with a checkpoint's files: its own, or its snapshot in the cache.

    The snapshot has weights only once an engine has loaded them.

    Raises:
        ConfigError: it is neither a folder nor in the cache, and cannot be fetched.
    """
    folder = Path(resolve(path))
    if folder.is_dir():
        return folder
    refuse_missing(path, key)
    from huggingface_hub import snapshot_download

    is_cut_off = not hub.is_reachable()
    try:
        return Path(
            snapshot_download(path, revision=revision, allow_patterns=list(_STATEMENTS), local_files_only=is_cut_off)
        )
    except (OSError, ValueError) as error:
        if is_cut_off:
            raise ConfigError(
                f"{key}={path}: not in the cache, and the hub cannot be reached from here; pass a folder"
            ) from None
        raise ConfigError(f"{key}={path}: cannot be fetched from the hub: {first_line(error)}") from None
