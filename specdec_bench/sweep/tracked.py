"""Logs a sweep to its tracker once all of it is archived."""

import hashlib
from typing import TYPE_CHECKING

from specdec_bench.errors import SharingError
from specdec_bench.report.streams import print_error
from specdec_bench.sweep.directory import SweepDirectory

if TYPE_CHECKING:
    from specdec_bench.compare.cell import SweepResult
    from specdec_bench.share.mlflow import MLflowTracker


def log_sweep(tracker: "MLflowTracker", sweep: SweepDirectory, result: "SweepResult") -> SharingError | None:
    """Logs a sweep's finished runs; prints and returns what the tracker failed at."""
    plan, runs = sweep.plan(), dict(sweep.runs())
    # A sweep without a plan is never resumed.
    began = plan.created_utc if plan is not None else min(run.manifest().created_utc for run in runs.values())
    cells = sorted(cell.cell_id for cell in plan.cells) if plan is not None else []
    sweep_id = hashlib.sha256(" ".join([began, *cells]).encode()).hexdigest()
    try:
        tracker.log_sweep(sweep.path, sweep_id, runs, result)
    except SharingError as error:
        print_error(str(error))
        return error
    return None
