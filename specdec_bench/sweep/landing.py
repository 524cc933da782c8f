"""Finds and checks the folders of a run or of every cell of a sweep before the first starts.

The user sets `hydra.run.dir`, `hydra.sweep.dir` and `hydra.sweep.subdir`, with interpolations, also of the cell.
"""

import copy
import os
from collections.abc import Sequence
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

from specdec_bench.archive import names
from specdec_bench.archive.layout import RunDirectory
from specdec_bench.archive.redact import refuse_secret_folder
from specdec_bench.archive.sweep_plan import PLAN
from specdec_bench.errors import ConfigError, first_line

RUN_DIR = "hydra.run.dir"
SWEEP_DIR = "hydra.sweep.dir"
SUBDIR = "hydra.sweep.subdir"
MAX_NAME_BYTES = 240
"""The longest name of a folder: what file systems allow, less what `attempts/NAME-1` adds."""
MAX_PATH_BYTES = 3900
"""The longest absolute path of a folder: what systems allow, less the files' own names."""

_RUN_FILES = frozenset(
    (names.CONFIG, names.MANIFEST, names.PROMPTS, names.REQUESTS, names.RESPONSES, names.SUMMARY, PLAN)
)
BEGUN = "another run began in it; choose another folder, or delete this one"
_SWEEP_FILE_STEMS = frozenset(("sweep", "replicates", "comparison", "multirun", "optimization_results", "report"))


def is_named_by_clock(composed: DictConfig, key: str) -> bool:
    """Says whether a folder is named by its start time, so that a second one of that name needs another name."""
    return "${now:" in str(_explain_unresolved(composed, key))


def find_run_folder(composed: DictConfig) -> Path:
    """Returns where the one run lands.

    Raises:
        ConfigError: a run cannot land there.
    """
    folder = _top_folder(composed, RUN_DIR)
    if not is_named_by_clock(composed, RUN_DIR):
        check_unused(folder, RUN_DIR)
    return folder


def find_sweep_folder(composed: DictConfig) -> Path:
    """Returns the folder of a sweep, from its tree as a whole.

    Raises:
        ConfigError: no sweep can land there.
    """
    folder = _top_folder(composed, SWEEP_DIR)
    if RunDirectory.is_run(folder):
        raise ConfigError(f"{SWEEP_DIR}={folder}: holds a run; choose another folder")
    return folder


def find_cell_folders(cells: Sequence[tuple[int, DictConfig]], sweep: Path) -> dict[int, str]:
    """Returns the folder of each cell below the sweep's.

    Args:
        cells: job numbers and trees.
        sweep: the sweep's folder.

    Raises:
        ConfigError: a cell cannot use its folder, or two cells cannot both use theirs.
    """
    folders: dict[int, str] = {}
    for number, composed in cells:
        given = f"{SWEEP_DIR}={_explain_unresolved(composed, SWEEP_DIR)}"
        if Path(_resolve(composed, SWEEP_DIR)) != sweep:
            raise ConfigError(
                f"{given}: is {_resolve(composed, SWEEP_DIR)} for job {number} and {sweep} for the sweep, which has "
                f"one folder; put what differs from cell to cell into {SUBDIR}"
            )
        folders[number] = _resolve(composed, SUBDIR)
        _refuse_secrets(composed, SUBDIR, folders[number])
    check_cell_folders(folders, sweep, f"{SUBDIR}={_explain_unresolved(cells[0][1], SUBDIR)}" if cells else SUBDIR)
    return folders


def check_cell_folders(folders: dict[int, str], sweep: Path, given: str) -> None:
    """Refuses folders unless each lies below the sweep's and belongs to one cell.

    Args:
        folders: by job number, relative to the sweep's.
        sweep: the sweep's folder.
        given: the setting or file that they come from, for the message.

    Raises:
        ConfigError: naming the first that is refused.
    """
    taken: dict[Path, int] = {}
    for number, folder in folders.items():
        where = f"{given}: job {number} would land in {_shown(folder)}"
        parts = Path(folder).parts
        _check_names(folder, given)
        if not folder or not parts:
            raise ConfigError(f"{where}, the sweep's own folder; give every cell one below it, as ${{hydra.job.num}}")
        if Path(folder).is_absolute() or ".." in parts or not _lies_below(sweep / folder, sweep):
            raise ConfigError(f"{where}, outside the sweep's folder; name one below it")
        reserved = [part for part in parts if part.startswith(".") or part == names.ATTEMPTS]
        if reserved or (Path(parts[0]).stem in _SWEEP_FILE_STEMS and Path(parts[0]).suffix):
            raise ConfigError(f"{where}; {(reserved or parts)[0]} is a name that the sweep itself uses")
        _check_length(sweep / folder, given)
        path = (sweep / folder).resolve()
        if path in taken:
            raise ConfigError(f"{where}, as job {taken[path]} does; put in what differs, as ${{hydra.job.num}}")
        taken[path] = number
    for path, number in taken.items():
        for above in path.parents:
            if above in taken:
                raise ConfigError(
                    f"{given}: job {number} would land in {_shown(folders[number])}, within the folder of job "
                    f"{taken[above]}"
                )


class SearchLanding:
    """Checks where the cells of a search land: as far as possible at its start, and again as each is chosen.

    Raises:
        ConfigError: a cell cannot use its folder, or two cells cannot both use theirs.
    """

    def __init__(self, loader: ConfigLoader, composed: DictConfig, sweep: Path) -> None:
        """Takes Hydra's loader, its tree of the search as a whole and the folder, which is not settled yet."""
        self._loader, self._composed, self._sweep = loader, copy.deepcopy(composed), sweep
        self._folders: dict[int, str] = {}
        # The same cell may be chosen twice, so the number alone has to tell them apart.
        find_cell_folders([(number, _with_number(copy.deepcopy(composed), number)) for number in (0, 1)], sweep)

    def __call__(self, job_overrides: Sequence[Sequence[str]], first: int) -> None:
        """Checks a batch of jobs together with those before it."""
        jobs = [(first + i, self._compose(overrides)) for i, overrides in enumerate(job_overrides)]
        cells = [(number, _with_number(composed, number)) for number, composed in jobs]
        chosen = find_cell_folders(cells, self._sweep)
        for number, folder in chosen.items():
            check_cell_unused(self._sweep / folder, number)
        self._folders |= chosen
        check_cell_folders(self._folders, self._sweep, SUBDIR)

    def _compose(self, overrides: Sequence[str]) -> DictConfig:
        return self._loader.load_sweep_config(self._composed, list(overrides))


def check_unused(folder: Path, key: str) -> None:
    """Refuses a folder with contents that a run would overwrite, or that would be taken for the run's own.

    Raises:
        ConfigError: naming it.
    """
    _check_length(folder, f"{key}={folder}")
    if RunDirectory.is_run(folder):
        raise ConfigError(f"{key}={folder}: already holds a run; choose another folder")
    if not folder.is_dir():
        return
    for entry in sorted(folder.iterdir()):
        if entry.name == names.HYDRA:
            raise ConfigError(f"{key}={folder}: {BEGUN}")
        if entry.name in _RUN_FILES or entry.is_dir():
            raise ConfigError(f"{key}={folder}: holds {entry.name} already; choose another folder")


def check_cell_unused(folder: Path, number: int) -> None:
    """Refuses a folder for a cell of a new sweep if it is in use already.

    Raises:
        ConfigError: naming it.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(
            f"{folder}: job {number} would be written there, but it exists already; choose another {SWEEP_DIR}"
        )


def settle_run(composed: DictConfig, folder: Path) -> None:
    """Sets where a run lands."""
    with flag_override(composed.hydra, ["struct", "readonly"], [False, False]):
        composed.hydra.run.dir = str(folder)


def settle_sweep(composed: DictConfig, sweep: Path) -> None:
    """Sets a sweep's folder in its tree, and as an override for the jobs that others compose."""
    with flag_override(composed.hydra, ["struct", "readonly"], [False, False]):
        composed.hydra.sweep.dir = str(sweep)
        composed.hydra.overrides.hydra.append(f"{SWEEP_DIR}={quote(sweep)}")


def settle_cell(composed: DictConfig, sweep: Path, folder: str) -> None:
    """Sets where a cell lands."""
    with flag_override(composed.hydra, ["struct", "readonly"], [False, False]):
        composed.hydra.sweep.dir, composed.hydra.sweep.subdir = str(sweep), folder


def _with_number(composed: DictConfig, number: int) -> DictConfig:
    with flag_override(composed.hydra, ["struct", "readonly"], [False, False]):
        composed.hydra.job.id, composed.hydra.job.num = str(number), number
    return composed


def quote(value: str | Path) -> str:
    """Returns a text as the value of an override."""
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"


def _top_folder(composed: DictConfig, key: str) -> Path:
    """Returns the folder of a run or a sweep, after checking all but its contents."""
    text = _resolve(composed, key)
    given = f"{key}={_explain_unresolved(composed, key)}"
    _refuse_secrets(composed, key, text)
    _check_names(text, given)
    if text.startswith("~"):
        raise ConfigError(f"{given}: ~ is not expanded here; write the full path")
    _check_length(Path(text), given)
    try:
        _check_place(text, given)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of symbolic links
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{given}: cannot be used: {reason}; choose another folder") from None
    return Path(text)


def _check_place(text: str, given: str) -> None:
    """Refuses the working directory itself, other runs' folders, and places where no folder can be made."""
    folder = Path(text).resolve()
    if not text or Path.cwd().resolve().is_relative_to(folder):
        raise ConfigError(f"{given}: would write into the working directory or one above it; name a folder of its own")
    for above in folder.parents:
        if RunDirectory.is_run(above) or (above / PLAN).is_file():
            raise ConfigError(f"{given}: lies in the folder of a run or a sweep, {above}; choose another folder")
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir():
        raise ConfigError(f"{given}: {nearest} is a file; choose another folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ConfigError(f"{given}: {nearest} cannot be written; choose another folder")


def _check_names(text: str, given: str) -> None:
    """Refuses text that cannot or should not name a folder."""
    if not text.isprintable():
        raise ConfigError(f"{_shown(given)}: holds characters that cannot be printed; name the folder without them")
    if "${" in text or any(part != part.strip() for part in text.split("/")):
        raise ConfigError(f"{given}: holds ${{, or a name that begins or ends with a space; name the folder without")


def _check_length(path: Path, given: str) -> None:
    longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
    if longest > MAX_NAME_BYTES or len(os.fsencode(path.absolute())) > MAX_PATH_BYTES:
        raise ConfigError(
            f"{_abbreviated(given)}: gives a name of {longest} bytes in a path of {len(os.fsencode(path.absolute()))}; "
            f"at most {MAX_NAME_BYTES} and {MAX_PATH_BYTES} fit"
        )


def _refuse_secrets(composed: DictConfig, key: str, text: str) -> None:
    """Refuses a name that holds a secret of the experiment or of the environment.

    Raises:
        ConfigError: naming the setting.
    """
    overrides = OmegaConf.to_container(composed.hydra.overrides.task, resolve=False)
    assert isinstance(overrides, list)
    refuse_secret_folder(Path(text), overrides, key)


def _lies_below(path: Path, folder: Path) -> bool:
    return path.resolve() != folder.resolve() and path.resolve().is_relative_to(folder.resolve())


def _resolve(composed: DictConfig, key: str) -> str:
    """Returns the text of a setting, its interpolations resolved.

    Raises:
        ConfigError: one of them has no value.
    """
    before = HydraConfig.instance().cfg
    try:
        with flag_override(composed.hydra, "readonly", None):  # which `set_config` sets
            HydraConfig.instance().set_config(composed)
            return str(OmegaConf.select(composed, key, throw_on_missing=True))
    except OmegaConfBaseException as error:
        reason = first_line(error)
        raise ConfigError(f"{key}={_explain_unresolved(composed, key)}: has no value here: {reason}") from None
    finally:
        HydraConfig.instance().cfg = before


def _explain_unresolved(composed: DictConfig, key: str) -> str:
    parent, _, name = key.rpartition(".")
    tree = OmegaConf.to_container(OmegaConf.select(composed, parent), resolve=False)
    assert isinstance(tree, dict)
    return str(tree[name])


def _shown(text: str) -> str:
    return _abbreviated(text if text.isprintable() else repr(text)) or "''"


def _abbreviated(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:80]}...{text[-80:]}"
