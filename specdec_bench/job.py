"""One job of a sweep, or the one run: from Hydra's composed tree to a finished run directory.

Other launchers run `Job` in processes of their own, where nothing but its pickle and this module is known.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from logging import LogRecord
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from specdec_bench.archive.layout import MULTIRUN
from specdec_bench.archive.redact import redact_hydra_folder
from specdec_bench.config import compose
from specdec_bench.errors import RunInterrupted, SpecDecBenchError
from specdec_bench.sweep.claims import remove_unused
from specdec_bench.sweep.directory import SweepDirectory
from specdec_bench.sweep.jobs import task_overrides
from specdec_bench.sweep.objective import objective

if TYPE_CHECKING:
    from specdec_bench.datasets import Selection
    from specdec_bench.runner.cell import Cell


class JobFailed(Exception):  # noqa: N818  (Hydra goes on with the next job, and this says how the sweep exits)
    """A job of a sweep failed."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message, exit_status)  # by which it is pickled
        self.message = message
        self.exit_status = exit_status

    def __str__(self) -> str:
        """Returns what went wrong, in one line."""
        return self.message


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

    def __call__(self, composed: DictConfig) -> float | None:
        """Runs one composed experiment of a sweep into Hydra's output directory, and returns its objective.

        Raises:
            JobFailed: in one line why; in the sweep's own process it has been printed.
        """
        hydra_config = HydraConfig.get()
        run_dir = Path(hydra_config.runtime.output_dir)
        try:
            with self._taking_part(Path(hydra_config.sweep.dir)):
                return self._run(composed, run_dir)
        except RunInterrupted as error:
            if self.runs_here:
                print_error(str(error))
                raise SystemExit(error.exit_status) from None  # ends the whole sweep
            raise JobFailed(str(error), error.exit_status) from None
        except SpecDecBenchError as error:
            if self.runs_here:
                print_error(f"job {hydra_config.job.num}: {error}")
            raise JobFailed(" ".join(str(error).split()), error.exit_status) from None
        finally:
            remove_unused(run_dir)

    def _run(self, composed: DictConfig, run_dir: Path) -> float | None:
        from specdec_bench.commands import run_and_show
        from specdec_bench.runner.process import end_process

        hydra_config = HydraConfig.get()
        multirun = Path(hydra_config.sweep.dir) / MULTIRUN
        try:
            redact_hydra_folder(run_dir, multirun if multirun.is_file() else None)
            cell = cell_of(composed, task_overrides(hydra_config), self.largest_concurrency, command=self.command)
            run = run_and_show(cell, run_dir, prints=self.runs_here, draws=False)
        finally:
            if not self.runs_here:
                end_process()  # the launcher may keep this process, and give its GPUs to another
        return objective(run.summary(), composed.objective) if self.returns_objective else None

    @contextlib.contextmanager
    def _taking_part(self, sweep_dir: Path) -> Iterator[None]:
        """Claims the sweep's folder for as long as the job runs elsewhere."""
        if self.runs_here:
            yield
            return
        os.chdir(self.working_dir)
        with SweepDirectory(sweep_dir).taking_part():
            yield


def cell_of(
    composed: DictConfig,
    overrides: Sequence[str],
    largest_concurrency: int = 1,
    *,
    command: Sequence[str],
    prompts: "dict[str, tuple[Selection, list[LogRecord]]] | None" = None,
) -> "Cell":
    """Returns the checked cell of a composed experiment.

    Args:
        composed: Hydra's tree, without Hydra's own settings.
        overrides: as they were given.
        largest_concurrency: of the sweep's cells.
        command: the command line.
        prompts: keeps those that were read, with what was logged, which the cells of a sweep share.

    Raises:
        SpecDecBenchError: it cannot be run.
    """
    from specdec_bench.runner import held_log
    from specdec_bench.runner.cell import Cell, check, load_prompts

    with held_log.hold() as of_cell:
        config = compose.experiment(composed, largest_concurrency)
        check(config)
    # By tokens it is selected with the engine's tokenizer, of which there are two.
    key = repr((config.dataset, config.seed, config.model, config.engine.name == "synthetic"))
    prompts = {} if prompts is None else prompts
    if key not in prompts:
        with held_log.hold() as of_prompts:
            prompts[key] = load_prompts(config), of_prompts
    selection, of_prompts = prompts[key]
    compose.limit_batch(config, composed, len(selection.prompts))
    return Cell(
        config=config,
        prompts=selection.prompts,
        command=command,
        overrides=overrides,
        origin=selection.origin,
        held_log=[*of_cell, *of_prompts],
    )


def print_error(message: str) -> None:
    """Prints an error as the one line that users see."""
    sys.stderr.write("error: " + " ".join(message.split()) + "\n")
