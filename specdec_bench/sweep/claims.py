"""Claims folders, each for one process alone, and removes those that stay unused."""

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path

from specdec_bench.archive import names
from specdec_bench.errors import ConfigError
from specdec_bench.sweep.landing import BEGUN, RUN_DIR

_WRITTEN_BEFORE = frozenset((names.HYDRA, names.LOG, names.MULTIRUN, names.LOCK, names.JOBS_LOCK))


@contextlib.contextmanager
def claim(folder: Path, key: str, *, is_new: bool) -> Iterator[Path]:
    """Makes a folder for this process alone and returns it; removes it if the block leaves nothing in it.

    Of several processes that try, one gets it; the others write nothing.

    Args:
        folder: where to land.
        key: the setting that names the folder, for messages. In a run's folder, `.hydra` is claimed too.
        is_new: whether the folder is named by the clock. If it exists, the next free one of FOLDER-2, FOLDER-3, ... is
            made instead.

    Raises:
        ConfigError: it cannot be made, or another process has it.
    """
    above = [path for path in folder.parents if not path.exists()]
    try:
        made = _make_new(folder) if is_new else _make(folder)
    except FileExistsError:
        raise ConfigError(f"{key}={folder}: a file is in the way; choose another folder") from None
    except OSError as error:
        raise ConfigError(f"{key}={folder}: cannot be made: {error.strerror}; choose another folder") from None
    claimed = made or folder
    if key == RUN_DIR:
        try:
            (claimed / names.HYDRA).mkdir()
        except FileExistsError:
            raise ConfigError(f"{key}={folder}: {BEGUN}") from None
        except OSError as error:
            raise ConfigError(f"{key}={folder}: cannot be written: {error.strerror}; choose another") from None
    before = frozenset(entry.name for entry in claimed.iterdir()) - {names.HYDRA}
    try:
        yield claimed
    finally:
        remove_unused(claimed, before, keeps_folder=made is None)
        for path in above:
            with contextlib.suppress(OSError):  # another process has put something into it
                path.rmdir()


def remove_unused(folder: Path, before: Collection[str] = (), *, keeps_folder: bool = False) -> None:
    """Removes a folder that holds nothing but what was written before the experiment was refused.

    Args:
        folder: to remove.
        before: names of entries that were in it before and stay.
        keeps_folder: whether the folder itself was there before and stays.
    """
    if not folder.is_dir():
        return
    left = {entry.name for entry in folder.iterdir()} - set(before)
    if left <= _WRITTEN_BEFORE:
        with contextlib.suppress(OSError):
            for path in [*(folder / names.HYDRA).glob("*.yaml"), *(folder / name for name in left - {names.HYDRA})]:
                path.unlink(missing_ok=True)
            if names.HYDRA in left:
                (folder / names.HYDRA).rmdir()
            if not keeps_folder:
                folder.rmdir()


def _make_new(folder: Path) -> Path:
    number = 1
    while True:
        path = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
        except FileNotFoundError:  # another process has just removed the folder above
            continue
        else:
            return path


def _make(folder: Path) -> Path | None:
    """Makes a folder; returns it if it was not there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir()
    except FileExistsError:
        if not folder.is_dir():
            raise
        return None
    return folder
