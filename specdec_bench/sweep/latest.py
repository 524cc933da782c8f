"""Finds the sweep that `resume=` means: the one it names, or the one planned last."""

import logging
from datetime import datetime
from pathlib import Path

from specdec_bench.archive import files
from specdec_bench.archive.sweep_plan import PLAN, find_sweeps, read_plan
from specdec_bench.errors import ArchiveError, ConfigError

LATEST = "latest"
OUTPUTS = Path("outputs")
"""Where conf/config.yaml puts runs and sweeps."""
ELSEWHERE = ".sweeps"
"""A file in outputs/ that lists the sweeps started from the folder above it but stored elsewhere, one a line."""
MAX_RECORDED = 100

logger = logging.getLogger(__name__)


def find(resume: str, outputs: Path) -> Path:
    """Returns the sweep's folder that `resume=` names.

    Args:
        resume: a sweep's folder, or `latest`.
        outputs: where the default output directories are.

    Raises:
        ConfigError: there is none.
    """
    if resume == LATEST:
        found = [*find_sweeps(outputs), *_read_recorded(outputs)]
        if not found:
            raise ConfigError(f"resume=latest: no sweep in {outputs}, nor one started from here; pass resume=DIR")
        return max(found, key=_began)
    path = Path(resume)
    try:
        is_sweep = (path / PLAN).is_file()
    except (OSError, ValueError):
        is_sweep = False
    if not is_sweep:
        raise ConfigError(f"resume={resume}: holds no sweep (no {PLAN}); give the folder that a sweep wrote")
    return path


def record(sweep: Path, outputs: Path) -> None:
    """Records a sweep outside the default folder, so that `resume=latest` finds it.

    The record is a convenience: if the working directory cannot be written, the sweep runs without it.
    """
    if sweep.resolve().is_relative_to(outputs.resolve()):
        return
    lines = [line for line in _lines(outputs / ELSEWHERE) if line != str(sweep.resolve())][1 - MAX_RECORDED :]
    try:
        outputs.mkdir(exist_ok=True)
        files.write_atomically(outputs / ELSEWHERE, [f"{line}\n".encode() for line in [*lines, sweep.resolve()]])
    except OSError as error:
        logger.warning("%s: cannot be written, so resume=latest will not find %s: %s", outputs, sweep, error.strerror)


def _read_recorded(outputs: Path) -> list[Path]:
    """Returns the sweeps elsewhere that are still there, as the user would name them from here."""
    found = [Path(line) for line in _lines(outputs / ELSEWHERE) if (Path(line) / PLAN).is_file()]
    here = Path.cwd().resolve()
    return [path.relative_to(here) if path.is_relative_to(here) else path for path in found]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []


def _began(sweep: Path) -> float:
    """Returns when a sweep was planned; for a broken plan, which is refused later, when its file was written."""
    try:
        plan = read_plan(sweep)
        assert plan is not None
        return datetime.fromisoformat(plan.created_utc).timestamp()
    except (ArchiveError, ValueError):
        return (sweep / PLAN).stat().st_mtime
