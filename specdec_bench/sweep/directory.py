"""The folder of a sweep: who may write into it, what was planned, what is done."""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from specdec_bench.archive import codec, files
from specdec_bench.archive.layout import ATTEMPTS, MANIFEST, MULTIRUN, RunDirectory
from specdec_bench.archive.provenance import utc_now
from specdec_bench.archive.redact import redact_overrides, redact_text
from specdec_bench.errors import ArchiveError, ConfigError
from specdec_bench.records import SCHEMA_VERSION, Record
from specdec_bench.sweep.plan import PlannedCell

PLAN = "sweep.json"
LOCK = ".lock"
JOBS_LOCK = ".jobs"
"""Held by every job in another process; shared, while `LOCK` is the sweep's alone."""
LATEST = "latest"


class PlannedRun(Record, frozen=True, kw_only=True):
    """One cell of a sweep as its plan names it."""

    number: int
    role: str
    cell_id: str
    folder: str
    """Below the sweep's own."""
    overrides: tuple[str, ...]
    """Secrets redacted."""


class Plan(Record, frozen=True, kw_only=True):
    """sweep.json: written before the first cell starts."""

    schema_version: int
    created_utc: str
    overrides: tuple[str, ...]
    """As the user gave them, secrets redacted."""
    hydra_overrides: tuple[str, ...] = ()
    """Those of Hydra's own settings: the launcher and how it is set."""
    baseline: str
    cells: tuple[PlannedRun, ...]


_PLAN: msgspec.json.Decoder[Plan] = msgspec.json.Decoder(Plan)


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
            ArchiveError: another process runs a sweep in it, or jobs of one that was killed still run elsewhere; or
                it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = self._claim(LOCK, fcntl.LOCK_EX)
            if self._lock is None:
                owner = (self.path / LOCK).read_text(encoding="utf-8", errors="replace").strip()
                raise ArchiveError(
                    f"{self.path}: another sweep (process {owner or 'unknown'}) is running in it; wait for it, or "
                    "choose another hydra.sweep.dir"
                )
            jobs = self._claim(JOBS_LOCK, fcntl.LOCK_EX)
            if jobs is None:
                self._unlock()
                raise ArchiveError(f"{self.path}: jobs of it are still running; wait for them, or cancel them")
            os.close(jobs)
        except OSError as error:
            self._unlock()
            raise ArchiveError(f"{self.path}: cannot be used for a sweep: {error.strerror}") from error
        os.ftruncate(self._lock, 0)
        files.write_all(self._lock, str(os.getpid()).encode())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Lets others in. The system does the same for a process that is killed."""
        self._unlock()

    @contextlib.contextmanager
    def taking_part(self) -> Iterator[None]:
        """Tells those who would go on with the sweep that a job of it runs, in whatever process, within the block.

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
        """Returns the descriptor of a locked file, or None if others hold it. The system unlocks for the killed."""
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

    def is_sweep(self) -> bool:
        """Says whether the folder is a sweep's: planned, or one whose cells a sweeper chose as it went."""
        return self.plan_path.is_file() or (self.path / MULTIRUN).is_file()

    def plan(self) -> Plan | None:
        """Returns what was planned, or None in a new folder.

        Raises:
            ArchiveError: the file is broken or of a newer release.
        """
        try:
            plan = codec.decode(self.plan_path.read_bytes(), _PLAN)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ArchiveError(f"{self.plan_path}: cannot be read: {error}; restore the file") from error
        if plan.schema_version > SCHEMA_VERSION:
            raise ArchiveError(f"{self.plan_path}: schema version {plan.schema_version} is newer than this release")
        return plan

    def write_plan(self, plan: Plan) -> None:
        """Writes what is planned.

        Raises:
            ArchiveError: it cannot be written.
        """
        try:
            files.write_atomically(self.plan_path, [codec.encode_document(plan)])
        except OSError as error:
            raise ArchiveError(f"{self.plan_path}: cannot be written: {error.strerror}") from error

    def runs(self) -> list[tuple[int, RunDirectory]]:
        """Returns the run directories of the sweep's cells that have one, with their job numbers.

        Without a plan, where a sweeper chose its cells as it went, they are numbered in the order of their beginning.
        """
        plan = self.plan()
        if plan is None:
            found = [RunDirectory.open(path.parent) for path in self.path.glob(f"*/{MANIFEST}")]
            return list(enumerate(sorted(found, key=lambda run: run.manifest().created_utc)))
        cells = sorted(plan.cells, key=lambda cell: cell.number)
        runs = [(cell.number, RunDirectory(self.path / cell.folder)) for cell in cells]
        return [(number, run) for number, run in runs if RunDirectory.is_run(run.path)]

    def is_finished(self, planned: PlannedCell) -> bool:
        """Says whether a cell was measured to its end."""
        if not RunDirectory.is_run(planned.run_dir):
            return False
        manifest = RunDirectory.open(planned.run_dir).manifest()
        return manifest.status == "finished" and manifest.cell_id == planned.cell.identity.cell_id

    def set_aside(self, planned: PlannedCell) -> None:
        """Moves what an unfinished attempt left of a cell out of the way, where no figure is computed from it.

        Raises:
            ArchiveError: it cannot be moved.
        """
        if not planned.run_dir.exists():
            return
        attempts = self.path / ATTEMPTS
        try:
            attempts.mkdir(exist_ok=True)
            taken = {entry.name for entry in attempts.iterdir()}
            name = planned.run_dir.name
            number = next(n for n in range(1, len(taken) + 2) if f"{name}-{n}" not in taken)
            planned.run_dir.rename(attempts / f"{name}-{number}")
            files.sync_folder(attempts)
        except OSError as error:
            raise ArchiveError(f"{planned.run_dir}: cannot be moved to {attempts}: {error.strerror}") from error


def check_same_cells(plan: Plan, cells: Sequence[PlannedCell], path: Path) -> None:
    """Refuses to go on with other cells than those that a sweep began with.

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


def find(resume: str, outputs: Path) -> Path:
    """Returns the sweep's folder that `resume=` names.

    Args:
        resume: a sweep's folder, or `latest`.
        outputs: where the default output directories are.

    Raises:
        ConfigError: there is none.
    """
    if resume == LATEST:
        found = sorted(path.parent for path in outputs.glob(f"*/*/{PLAN}"))
        if not found:
            raise ConfigError(f"resume=latest: no sweep in {outputs}; give its folder, resume=DIR")
        return found[-1]
    path = Path(resume)
    if not (path / PLAN).is_file():
        raise ConfigError(f"resume={resume}: holds no sweep (no {PLAN}); give the folder that a sweep wrote")
    return path


def as_plan(
    cells: Sequence[PlannedCell],
    path: Path,
    overrides: Sequence[str],
    hydra_overrides: Sequence[str],
    baseline: str,
) -> Plan:
    """Returns what sweep.json says of these cells, in the sweep's folder."""
    return Plan(
        schema_version=SCHEMA_VERSION,
        created_utc=utc_now(),
        overrides=tuple(redact_overrides(list(overrides))),
        hydra_overrides=tuple(redact_overrides(list(hydra_overrides))),
        baseline=redact_text(baseline),
        cells=tuple(
            PlannedRun(
                number=cell.number,
                role=cell.role,
                cell_id=cell.cell.identity.cell_id,
                folder=str(cell.run_dir.relative_to(path)),
                overrides=tuple(redact_overrides(list(cell.overrides))),
            )
            for cell in cells
        ),
    )


def _words(overrides: Sequence[str]) -> str:
    return " ".join(overrides) or "without overrides"
