"""The folder of a sweep: who may write into it, what was planned, what is done."""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from specdec_bench.archive import codec, files
from specdec_bench.archive.layout import RunDirectory
from specdec_bench.archive.names import ATTEMPTS, JOBS_LOCK, LOCK, MULTIRUN
from specdec_bench.archive.provenance import utc_now
from specdec_bench.archive.redact import redact_overrides, redact_text
from specdec_bench.archive.sweep_plan import (
    PLAN,
    FoundRuns,
    Plan,
    PlannedRun,
    find_runs_of_cells,
    read_plan,
    run_folders,
)
from specdec_bench.errors import ArchiveError, ArchiveInputError, ConfigError
from specdec_bench.records.request import SCHEMA_VERSION
from specdec_bench.sweep import landing
from specdec_bench.sweep.plan import PlannedCell


class SweepDirectory:
    """One sweep's folder. A context manager that keeps a second sweep out of it."""

    def __init__(self, path: Path) -> None:
        """Names the folder without looking at it."""
        self.path = path
        self.plan_path = path / PLAN
        self._lock: int | None = None

    def __enter__(self) -> Self:
        """Makes the folder if it is not there, and claims it for this process.

        Raises:
            ArchiveInputError: another process runs a sweep in it, jobs of a killed sweep still run elsewhere, or it
                cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = self._claim(LOCK, fcntl.LOCK_EX)
            if self._lock is None:
                owner = (self.path / LOCK).read_text(encoding="utf-8", errors="replace").strip()
                raise ArchiveInputError(
                    f"{self.path}: another sweep (process {owner or 'unknown'}) is running in it; wait for it, or "
                    "choose another hydra.sweep.dir"
                )
            jobs = self._claim(JOBS_LOCK, fcntl.LOCK_EX)
            if jobs is None:
                self._unlock()
                raise ArchiveInputError(f"{self.path}: jobs of it are still running; wait for them, or cancel them")
            os.close(jobs)
            os.ftruncate(self._lock, 0)
            files.write_all(self._lock, str(os.getpid()).encode())
        except OSError as error:
            self._unlock()
            raise ArchiveInputError(
                f"hydra.sweep.dir={self.path}: cannot be used for a sweep: {error.strerror}; choose another folder"
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Lets others in. The system does the same for a process that is killed."""
        self._unlock()

    @contextlib.contextmanager
    def taking_part(self) -> Iterator[None]:
        """Marks a job of the sweep as running within the block, in any process, so that nobody resumes the sweep.

        Raises:
            ArchiveError: the folder cannot be written.
        """
        try:
            jobs = self._claim(JOBS_LOCK, fcntl.LOCK_SH)
        except OSError as error:
            raise ArchiveError(f"{self.path}: cannot be used by a job: {error.strerror}") from error
        if jobs is None:
            raise ArchiveError(f"{self.path}: is being taken over by another sweep; cancel one of them")
        try:
            yield
        finally:
            os.close(jobs)

    def _claim(self, name: str, kind: int) -> int | None:
        """Returns a locked file's descriptor, or None if others hold it. If we are killed, the system unlocks it."""
        descriptor = os.open(self.path / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def is_running(self) -> bool:
        """Says whether a process of this machine runs the sweep or one of its jobs. Changes nothing in the folder."""
        return any(map(_is_locked, (self.path / LOCK, self.path / JOBS_LOCK)))

    def is_sweep(self) -> bool:
        """Says whether the folder holds a sweep: a planned one, or one whose cells a sweeper chose as it ran."""
        return files.is_file(self.plan_path) or files.is_file(self.path / MULTIRUN)

    def plan(self) -> Plan | None:
        """Returns the sweep's plan, or None in a new folder.

        Raises:
            ArchiveError: the file is broken or of a newer release.
        """
        return read_plan(self.path)

    def write_plan(self, plan: Plan) -> None:
        """Writes the sweep's plan.

        Raises:
            ArchiveError: it cannot be written.
        """
        files.write_atomically(self.plan_path, [codec.encode_document(plan)])

    def runs(self) -> list[tuple[int, RunDirectory]]:
        """Returns the job number and the run directory of each cell that has one."""
        return list(self.found().runs.items())

    def found(self) -> FoundRuns:
        """Returns the runs of the sweep's cells by job number, and names the other runs in its folder.

        Without a plan (a sweeper chose the cells as it ran), runs are numbered in the order in which they began.
        """
        plan = self.plan()
        if plan is None:
            runs = [RunDirectory.open(path) for path in run_folders(self.path)]
            began = sorted(runs, key=lambda run: run.manifest().created_utc)
            return FoundRuns(runs=dict(enumerate(began)), not_taken=[])
        found = find_runs_of_cells(self.path, plan)
        for run in found.runs.values():
            run.check_config()
        return found

    def is_finished(self, planned: PlannedCell) -> bool:
        """Says whether a cell's run is finished."""
        if not RunDirectory.is_run(planned.run_dir):
            return False
        manifest = RunDirectory.open(planned.run_dir).manifest()
        return manifest.status == "finished" and manifest.cell_id == planned.cell.identity.cell_id

    def set_aside(self, planned: PlannedCell) -> str | None:
        """Moves the files of an unfinished attempt out of the way, so that no metric is computed from them.

        Returns:
            A line that says where a run of another cell was moved; None for an attempt.

        Raises:
            ArchiveError: it cannot be moved.
        """
        if not planned.run_dir.exists():
            return None
        attempts = self.path / ATTEMPTS
        is_other = (
            RunDirectory.is_run(planned.run_dir) and self._cell_id(planned.run_dir) != planned.cell.identity.cell_id
        )
        try:
            attempts.mkdir(exist_ok=True)
            taken = {entry.name for entry in attempts.iterdir()}
            name = planned.run_dir.name
            number = next(n for n in range(1, len(taken) + 2) if f"{name}-{n}" not in taken)
            planned.run_dir.rename(attempts / f"{name}-{number}")
            files.sync_folder(attempts)
        except OSError as error:
            raise ArchiveError(f"{planned.run_dir}: cannot be moved to {attempts}: {error.strerror}") from error
        return (
            f"{planned.run_dir}: held a run of another cell, which is now {ATTEMPTS}/{name}-{number}"
            if is_other
            else None
        )

    def _cell_id(self, path: Path) -> str | None:
        return RunDirectory.open(path).manifest().cell_id


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def check_same_cells(plan: Plan, cells: Sequence[PlannedCell], path: Path) -> None:
    """Refuses to resume a sweep with cells other than those it began with.

    Raises:
        ConfigError: naming the first cell that differs.
    """
    planned = {cell.number: cell for cell in plan.cells}
    fix = "resume with the overrides that the sweep began with"
    for cell in cells:
        before = planned.pop(cell.number, None)
        if before is None or before.cell_id != cell.cell.identity.cell_id:
            was = f"was {_words(before.overrides)}" if before else "was not planned"
            raise ConfigError(
                f"resume={path}: job {cell.number} is {_words(cell.overrides)} and {was}, or its model or prompts have "
                f"changed; {fix}"
            )
    for missing in planned.values():
        raise ConfigError(
            f"resume={path}: job {missing.number} ({_words(missing.overrides)}) is not among these cells; {fix}"
        )


def place_new(cells: Sequence[PlannedCell], folders: dict[int, str], sweep: SweepDirectory) -> None:
    """Sets where the cells of a new sweep land.

    Raises:
        ConfigError: something is there already.
    """
    for cell in cells:
        landing.settle_cell(cell.composed, sweep.path, folders[cell.number])
        landing.check_cell_unused(cell.run_dir, cell.number)


def place(cells: Sequence[PlannedCell], plan: Plan, sweep: SweepDirectory) -> None:
    """Sets where the cells of a resumed sweep land: where their runs are, or else where the plan puts them.

    Raises:
        ConfigError: the cells are not those that it began with, or its plan names folders outside of it.
    """
    check_same_cells(plan, cells, sweep.path)
    folders = {cell.number: cell.folder for cell in plan.cells}
    landing.check_cell_folders(folders, sweep.path, str(sweep.plan_path))
    for number, run in sweep.found().runs.items():
        folders[number] = str(run.path.relative_to(sweep.path))
    for cell in cells:
        landing.settle_cell(cell.composed, sweep.path, folders[cell.number])


def as_plan(
    cells: Sequence[PlannedCell],
    overrides: Sequence[str],
    hydra_overrides: Sequence[str],
    baseline: str,
) -> Plan:
    """Returns these cells' plan, as sweep.json records it."""
    return Plan(
        schema_version=SCHEMA_VERSION,
        created_utc=utc_now(),
        overrides=tuple(redact_overrides(list(overrides))),
        hydra_overrides=tuple(redact_overrides(list(hydra_overrides))),
        working_dir=str(Path.cwd()),
        baseline=redact_text(baseline),
        cells=tuple(
            PlannedRun(
                number=cell.number,
                role=cell.role,
                cell_id=cell.cell.identity.cell_id,
                folder=cell.subdir,
                overrides=tuple(redact_overrides(list(cell.overrides))),
            )
            for cell in cells
        ),
    )


def _words(overrides: Sequence[str]) -> str:
    return " ".join(overrides) or "without overrides"
