"""The archives that a command is given: runs, sweeps, or folders of them; and the file that it writes of them."""

from pathlib import Path

from specdec_bench.archive import RunDirectory
from specdec_bench.archive.sweep_plan import find_runs
from specdec_bench.cli.arguments import open_run
from specdec_bench.config.schema.experiment import NO_BASELINE
from specdec_bench.errors import ConfigError
from specdec_bench.sweep.baselines import baseline_runs
from specdec_bench.sweep.directory import SweepDirectory


def runs_of(folder: Path) -> tuple[list[RunDirectory], list[RunDirectory]]:
    """Returns the runs in a folder, and the archived plain runs that its sweep is compared with.

    Raises:
        ArchiveError: there is none, or one does not say what was asked for.
    """
    if RunDirectory.is_run(folder):
        return [open_run(str(folder))], []
    sweep = SweepDirectory(folder)
    plan = sweep.plan() if sweep.is_sweep() else None
    archived = baseline_runs(NO_BASELINE if plan is None else plan.baseline)
    runs = [run for _, run in sweep.runs()] if sweep.is_sweep() else []
    if not sweep.is_sweep() and is_folder(folder):
        runs = list(find_runs(folder).runs.values())
    if not runs:
        return [open_run(str(folder))], []  # which says what it is not
    return [open_run(str(run.path)) for run in runs], archived


def is_folder(path: Path) -> bool:
    """Whether the path is a folder; False also for a name that no folder can have."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def refuse_bad_output(path: Path) -> None:
    """Refuses a file that cannot be written, before any archive is read.

    Raises:
        ConfigError: it is a folder, or its folder is not there.
    """
    if not path.name or not is_folder(path.parent) or is_folder(path):
        raise ConfigError(f"--output={path}: names no file in an existing folder; give a file's path")
