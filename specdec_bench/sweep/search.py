"""Has another sweeper choose and run cells."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import Override, RangeSweep
from omegaconf import DictConfig

from specdec_bench.archive.hydra_files import redact_yaml
from specdec_bench.compare.columns import METRICS
from specdec_bench.config.compose import CONFIG
from specdec_bench.config.schema.load import OPTIONS
from specdec_bench.errors import ConfigError, JobFailed
from specdec_bench.report.streams import print_error
from specdec_bench.share.tracking import create_tracker
from specdec_bench.sweep import directory, landing
from specdec_bench.sweep.claims import claim
from specdec_bench.sweep.job import Job, failure_of, raise_first_failure
from specdec_bench.sweep.launchers import wait_for_all_jobs
from specdec_bench.sweep.show import close_abandoned, show_best, show_sweep
from specdec_bench.sweep.tracked import log_sweep

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from hydra.core.utils import JobReturn


def run_search(app: "Hydra", composed: DictConfig, folder: Path, job: Job, overrides: list[str]) -> None:
    """Has another sweeper choose and run cells, and shows the results of all of them.

    Raises:
        JobFailed: the first job that failed; its error has been printed.
    """
    tracker = create_tracker(composed)
    if tracker is not None:
        tracker.connect()
    check_landing = landing.SearchLanding(app.config_loader, composed, folder)
    is_new = landing.is_named_by_clock(composed, landing.SWEEP_DIR)
    results: list[JobReturn] = []

    def note(returned: "Sequence[JobReturn]") -> None:
        for number, result in enumerate(returned, start=len(results)):
            if not job.runs_here and (failure := failure_of(result)) is not None:
                print_error(f"job {number}: {failure}")
        results.extend(returned)

    folder = folder if job.runs_here else folder.absolute()
    with claim(folder, landing.SWEEP_DIR, is_new=is_new) as claimed, directory.SweepDirectory(claimed) as sweep:
        if sweep.is_sweep() or sweep.runs():
            raise ConfigError(f"hydra.sweep.dir={sweep.path}: already holds a sweep; choose another folder")
        landing.settle_sweep(composed, claimed)
        try:
            with wait_for_all_jobs(note, check_landing):
                app.multirun(CONFIG, job, overrides)
        except ValueError:  # Optuna finds no best trial if all failed
            if any(failure_of(result) is None for result in results):
                raise
        finally:
            for path in sweep.path.glob("*.yaml"):  # the sweeper's own
                redact_yaml(path)
            close_abandoned([run.path for _, run in sweep.runs()])
            result = show_sweep(sweep, [])
            show_best(sweep, composed.objective, METRICS[composed.objective].better)
        unlogged = None if tracker is None or result is None else log_sweep(tracker, sweep, result)
    raise_first_failure(results)
    if unlogged is not None:
        raise JobFailed(str(unlogged), unlogged.exit_status)


def largest_concurrency(overrides: list[Override]) -> int:
    """Returns the most requests in flight that overrides such as load.concurrency set, or 1 if none does."""
    keys = {f"load.{load.AXIS}" for load in OPTIONS.values() if load.BOUNDS_IN_FLIGHT}
    values: list[Any] = []
    for override in overrides:
        if override.key_or_group in keys:
            value = override.value()
            if isinstance(value, RangeSweep) and isinstance(swept := value.range(), range):
                values += [*swept[:1], *swept[-1:]]  # a search may choose from any number of them
            else:
                values += override.sweep_iterator() if override.is_sweep_override() else [value]
    return max((value for value in values if isinstance(value, int)), default=1)
