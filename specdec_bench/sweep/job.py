"""One job of a sweep, or the one run: from Hydra's composed tree to a finished run directory.

Other launchers run `Job` in their own processes, which know only its pickle and this module.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from specdec_bench.archive.hydra_files import redact_yaml
from specdec_bench.archive.names import MULTIRUN
from specdec_bench.archive.redact import learn_arguments, refuse_secret_folder
from specdec_bench.config import plugins
from specdec_bench.errors import FAILED, JobFailed
from specdec_bench.sweep.claims import remove_unused
from specdec_bench.sweep.compose_cell import compose_cell
from specdec_bench.sweep.directory import SweepDirectory
from specdec_bench.sweep.launch import task_overrides
from specdec_bench.sweep.launchers import JobLost

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn

    from specdec_bench.report.progress import Cells
    from specdec_bench.runner.cell import Cell


@dataclass(frozen=True, kw_only=True)
class Job:
    """What Hydra calls for each job of a sweep."""

    largest_concurrency: int
    """Of the sweep's cells."""
    command: tuple[str, ...]
    """The sweep's."""
    working_dir: str
    """The sweep's, to which paths are relative."""
    runs_here: bool
    """Whether jobs run in the sweep's own process."""
    returns_objective: bool
    """Whether the sweeper optimizes, so that a cell without its objective has failed."""
    cells: "Cells | None" = None
    """The sweep's progress, if its jobs run in this process."""

    def __call__(self, composed: DictConfig) -> float | None:
        """Runs one composed experiment of a sweep into Hydra's output directory, and returns its objective.

        Raises:
            JobFailed: with the reason in one line, which has been printed if this is the sweep's own process.
        """
        from specdec_bench.runner.process import end_process
        from specdec_bench.sweep.run_cell import run_job

        hydra_config = HydraConfig.get()
        run_dir = Path(hydra_config.runtime.output_dir)
        learn_arguments(self.command)
        with contextlib.ExitStack() as until_its_end:
            until_its_end.callback(remove_unused, run_dir)

            def make_cell() -> "Cell":
                plugins.load()
                until_its_end.enter_context(self._taking_part(Path(hydra_config.sweep.dir)))
                if not self.runs_here:
                    until_its_end.callback(end_process)  # the launcher may give this process's GPUs to another
                return self._compose(composed, run_dir)

            return run_job(
                make_cell,
                number=hydra_config.job.num,
                runs_here=self.runs_here,
                cells=self.cells,
                judged_by=composed.objective if self.returns_objective else None,
            )

    def _compose(self, composed: DictConfig, run_dir: Path) -> "Cell":
        hydra_config = HydraConfig.get()
        multirun = Path(hydra_config.sweep.dir) / MULTIRUN
        refuse_secret_folder(run_dir, task_overrides(hydra_config), "hydra.sweep")
        if multirun.is_file():  # another sweeper's
            redact_yaml(multirun)
        return compose_cell(composed, task_overrides(hydra_config), self.largest_concurrency, command=self.command)

    @contextlib.contextmanager
    def _taking_part(self, sweep_dir: Path) -> Iterator[None]:
        """Shares the claim on the sweep's folder while the job runs, if it runs in another process."""
        if self.runs_here:
            yield
            return

        os.chdir(self.working_dir)
        with SweepDirectory(sweep_dir).taking_part():
            yield


def failure_of(result: "JobReturn") -> Exception | None:
    """Returns why a job failed, without Hydra's own words on stderr."""
    from hydra.core.utils import JobStatus

    return None if result.status == JobStatus.COMPLETED else result._return_value


def raise_first_failure(results: "Sequence[JobReturn]") -> None:
    """Raises the failure of the first job that has one.

    Raises:
        JobFailed: see above.
    """
    failures = [failure for failure in map(failure_of, results) if failure is not None]
    for failure in failures:
        raise JobFailed(str(failure), FAILED) if isinstance(failure, JobLost) else failure
