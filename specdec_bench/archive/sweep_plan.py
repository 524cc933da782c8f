"""Reads sweep.json, the plan of a sweep, and finds the runs of its cells below a folder.

Only its `cell_id` decides which cell a run belongs to; the run may lie anywhere below the sweep's folder.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from specdec_bench.archive import codec, files
from specdec_bench.archive.layout import RunDirectory
from specdec_bench.archive.names import ATTEMPTS
from specdec_bench.errors import ArchiveInputError
from specdec_bench.records.request import SCHEMA_VERSION, Record

PLAN = "sweep.json"


class PlannedRun(Record, frozen=True, kw_only=True):
    """One cell of a sweep as its plan names it."""

    number: int
    role: str
    cell_id: str
    folder: str
    """Relative to the sweep's folder."""
    overrides: tuple[str, ...]
    """Secrets redacted."""


class Plan(Record, frozen=True, kw_only=True):
    """sweep.json: written before the first cell starts."""

    schema_version: int
    created_utc: str
    overrides: tuple[str, ...]
    """As the user gave them, secrets redacted."""
    hydra_overrides: tuple[str, ...] = ()
    """Overrides of Hydra's own settings, except the sweep's folder: launcher, sweeper, subfolders, search path."""
    working_dir: str = ""
    """The folder in which the sweep was started; its relative paths start there."""
    baseline: str
    cells: tuple[PlannedRun, ...]


_PLAN: msgspec.json.Decoder[Plan] = msgspec.json.Decoder(Plan)


def read_plan(sweep: Path) -> Plan | None:
    """Returns the plan of a sweep, or None if the folder has no plan.

    Raises:
        ArchiveInputError: the file is broken or of a newer release.
    """
    path = sweep / PLAN
    try:
        plan = codec.decode(path.read_bytes(), _PLAN)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise ArchiveInputError(f"{path}: cannot be read: {error}; restore the file") from error
    if plan.schema_version > SCHEMA_VERSION:
        raise ArchiveInputError(f"{path}: schema version {plan.schema_version} is newer than this release")
    return plan


@dataclass(frozen=True, kw_only=True)
class FoundRuns:
    """The runs below a folder."""

    runs: dict[int, RunDirectory]
    """By the job number of their cell; without a plan, by their place among the folders' names."""
    not_taken: list[str]
    """One line for each run that belongs to no planned cell."""


def find_runs_of_cells(sweep: Path, plan: Plan) -> FoundRuns:
    """Returns the run of each planned cell that has one.

    Of several runs, it prefers finished ones, and among those the one in the planned folder.

    Raises:
        ArchiveInputError: a manifest is broken or of a newer release.
    """
    planned_folders = {sweep / cell.folder: cell for cell in plan.cells}
    folders = [path for path in planned_folders if RunDirectory.is_run(path)]
    folders += [path for path in run_folders(sweep) if path not in planned_folders]
    manifests = {path: RunDirectory.open(path).manifest() for path in folders}
    numbers = {cell.cell_id: cell.number for cell in plan.cells}
    folders.sort(key=lambda path: (manifests[path].status != "finished", path not in planned_folders, path))
    runs: dict[int, RunDirectory] = {}
    not_taken = []
    for path in folders:
        number = numbers.get(manifests[path].cell_id or "")
        if number is None:
            expected = planned_folders.get(path)
            what = f"another cell than job {expected.number}" if expected else "none of its cells"
            not_taken.append(f"{path}: not taken into the sweep, the run is of {what}")
        elif number in runs:
            not_taken.append(f"{path}: not taken into the sweep, job {number} has its run in {runs[number].path}")
        else:
            runs[number] = RunDirectory(path)
    return FoundRuns(runs=dict(sorted(runs.items())), not_taken=not_taken)


def find_runs(root: Path) -> FoundRuns:
    """Returns every run below a folder, sorted by folder name; from a planned sweep, only the runs of its cells.

    Raises:
        ArchiveInputError: a plan, or the manifest of a run in a planned sweep, is broken or of a newer release.
    """
    found: list[RunDirectory] = []
    not_taken: list[str] = []
    for folder in _runs_and_sweeps(root):
        if RunDirectory.is_run(folder):
            found.append(RunDirectory(folder))
        elif (plan := read_plan(folder)) is not None:
            of_sweep = find_runs_of_cells(folder, plan)
            found += sorted(of_sweep.runs.values(), key=lambda run: run.path)
            not_taken += of_sweep.not_taken
    return FoundRuns(runs=dict(enumerate(found)), not_taken=not_taken)


def find_sweeps(root: Path) -> Iterator[Path]:
    """Yields the folders of the planned sweeps in or below a folder."""
    return (folder for folder in _runs_and_sweeps(root) if not RunDirectory.is_run(folder))


def run_folders(root: Path) -> Iterator[Path]:
    """Yields the folders of the runs in or below a folder, sorted by name, without looking below a run."""
    return (folder for folder in _walk(root) if RunDirectory.is_run(folder))


def _runs_and_sweeps(root: Path) -> Iterator[Path]:
    """Yields the folders of runs and of planned sweeps, without looking below either."""
    return (folder for folder in _walk(root, stops_at_plans=True) if _is_run_or_sweep(folder))


def _is_run_or_sweep(folder: Path) -> bool:
    return RunDirectory.is_run(folder) or files.is_file(folder / PLAN)


def _walk(root: Path, *, stops_at_plans: bool = False) -> Iterator[Path]:
    for name, subfolders, _ in os.walk(root):
        folder = Path(name)
        yield folder
        if RunDirectory.is_run(folder) or (stops_at_plans and files.is_file(folder / PLAN)):
            subfolders.clear()
        subfolders[:] = sorted(name for name in subfolders if name != ATTEMPTS and not name.startswith("."))
