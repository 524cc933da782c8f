"""Runs one experiment without a sweep around it, and decides where it lands."""

import sys
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from specdec_bench.archive import files
from specdec_bench.config.compose import CONFIG
from specdec_bench.share.tracking import create_tracker
from specdec_bench.sweep import landing, launch
from specdec_bench.sweep.claims import claim
from specdec_bench.sweep.compose_cell import compose_cell
from specdec_bench.sweep.plan import without_hydra

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra


def run_single(app: "Hydra", composed: DictConfig, overrides: list[str], *, is_dry_run: bool) -> None:
    """Checks one experiment as far as possible, then runs it.

    Raises:
        SpecDecBenchError: it cannot run, or failed.
    """
    composed.hydra.mode = RunMode.RUN
    folder = landing.find_run_folder(composed)
    launch.check_plugins(app.config_loader, composed)
    HydraConfig.instance().set_config(composed)
    cell = compose_cell(without_hydra(composed), launch.task_overrides(composed.hydra), command=sys.argv)
    from specdec_bench.sweep.run_cell import run_job, show_cell  # tables, progress, the measuring process

    tracker = create_tracker(composed)
    if is_dry_run:
        show_cell(cell)
        return
    if tracker is not None:
        tracker.connect()

    def run(_: DictConfig) -> None:
        run_job(lambda: cell, on_finished=None if tracker is None else tracker.log_run)

    is_new = landing.is_named_by_clock(composed, landing.RUN_DIR)
    with claim(folder, landing.RUN_DIR, is_new=is_new) as claimed, files.naming(claimed):
        landing.settle_run(composed, claimed)
        app.run(CONFIG, run, overrides)
