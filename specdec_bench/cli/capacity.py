"""`capacity`: searches the highest rate that meets the objectives, with and without speculation."""

import os
import sys

from hydra.core.hydra_config import HydraConfig

from specdec_bench.cli import composing, flags
from specdec_bench.errors import ConfigError, RunInterrupted
from specdec_bench.sweep.settings import check_settings

HELP = """\
usage: specdec-bench capacity OVERRIDES

Searches the highest rate of conversations at which a share of the requests meets the objectives, with the chosen method
and without speculation, and says what speculation makes of it.

  specdec-bench capacity spec=draft_model load=poisson load.rate=4 slo.ttft_ms=500 slo.tpot_ms=30

load.rate=4                   where the search starts: the rate is doubled or halved from there, then bisected
slo.ttft_ms slo.tpot_ms slo.e2e_ms    objectives for every request, in ms; at least one
capacity.share=0.9            the share of requests that has to meet them
capacity.tolerance=0.05       how far apart the rate that passed and the one that failed may be, as a share
capacity.num_seeds=3          runs of each rate, with other arrivals
capacity.min_duration_s=60    how long each run lasts, at least
capacity.min_requests=500     how many requests each run has, at least
hydra.sweep.dir=DIR           where it lands; the same command again goes on there
"""


def capacity(arguments: list[str]) -> int:
    """Searches, archives the result and prints it. Returns 0."""
    asked = flags.parse(arguments)
    if asked.shows_help:
        sys.stdout.write(HELP)
        return 0
    if asked.runs_nothing or asked.is_sweep or asked.is_dry_run:
        raise ConfigError("specdec-bench capacity: takes overrides and --config-dir; --help shows which")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors instead of printing them over several lines
    with composing.composed_tree(asked.overrides) as (app, composed):
        check_settings(composed, is_sweep=True)
        composing.refuse_fields_of_a_sweep(composed, "a search always runs plain decoding too")
        if composed.tracking.name != "none":
            raise ConfigError(f"tracking={composed.tracking.name}: is of runs and sweeps; a search logs nothing")
        HydraConfig.instance().set_config(composed)
        # Imported only now, so that refusing what cannot be composed is quick.
        from specdec_bench.report.capacity_table import print_capacity
        from specdec_bench.report.console import console
        from specdec_bench.sweep import directory, landing, launch
        from specdec_bench.sweep.capacity import RESULT, CapacitySearch
        from specdec_bench.sweep.claims import claim

        if not (launch.runs_here(composed) and launch.is_grid(composed)):
            raise ConfigError(
                "capacity: runs its cells here, one after another; leave out hydra/launcher and hydra/sweeper"
            )
        folder = landing.find_sweep_folder(composed)
        search = CapacitySearch(
            app.config_loader, composed, launch.task_overrides(composed.hydra), ["specdec-bench", *sys.argv[1:]]
        )
        is_new = landing.is_named_by_clock(composed, landing.SWEEP_DIR)
        if not is_new and folder.is_dir() and not (folder / RESULT).is_file():
            landing.check_unused(folder, landing.SWEEP_DIR)
        with claim(folder, landing.SWEEP_DIR, is_new=is_new) as claimed, directory.SweepDirectory(claimed):
            try:
                result = search.run(claimed)
            except (KeyboardInterrupt, RunInterrupted):
                again = f"the same command with hydra.sweep.dir={claimed} goes on"
                raise RunInterrupted(f"interrupted; {again}") from None
        print_capacity(result, console(), path=str(claimed))
    return 0
