"""What a sweep costs in addition to measuring: `python benchmarks/many_cells.py --cells 1000`.

Runs that many cells of one short request on engine=synthetic, and as many empty jobs of Hydra's own basic launcher on
the same configuration, and prints the seconds of each and what a cell costs beyond an empty job; then how long the
sweep's final table takes. Prints one JSON object.
"""

import argparse
import contextlib
import io
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from specdec_bench.archive.layout import RunDirectory
from specdec_bench.config.compose import CONF
from specdec_bench.sweep.directory import SweepDirectory
from specdec_bench.sweep.show import show_sweep

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENT = [
    "engine=synthetic",
    "engine.ttft_ms=0",
    "engine.step_time_ms=0",
    "spec=ngram",
    "dataset.num_prompts=1",
    "dataset.num_turns=1",
    "sampling.max_new_tokens=4",
    "load.num_warmup=0",
]
EMPTY_JOB = f"""
import hydra
from specdec_bench.config import compose
compose.register_schemas()
@hydra.main(version_base="1.3", config_path={str(CONF)!r}, config_name="config")
def job(_): pass
job()
"""


def seconds_of(*command: str | Path) -> float:
    """Returns how long a command took.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    began = time.perf_counter()
    subprocess.run([sys.executable, *map(str, command)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    """Prints the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1000)
    number = parser.parse_args().cells
    with tempfile.TemporaryDirectory() as folder:
        empty_job, empty, sweep = (Path(folder) / name for name in ("empty_job.py", "empty", "sweep"))
        empty_job.write_text(EMPTY_JOB)
        grid = ["-m", *EXPERIMENT, f"seed=range(0,{number})"]
        empty_s = seconds_of(empty_job, *grid, f"hydra.sweep.dir={empty}")
        sweep_s = seconds_of(ROOT / "run.py", *grid, f"hydra.sweep.dir={sweep}")
        runs = [RunDirectory.open(path.parent) for path in sweep.glob("*/manifest.json")]
        assert sum(run.manifest().status == "finished" for run in runs) == number
        measuring_s = sum(run.summary().throughput.duration_s or 0 for run in runs)
        began = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            show_sweep(SweepDirectory(sweep), [])
        table_s = time.perf_counter() - began
    print(
        json.dumps(
            {
                "cells": number,
                "empty_jobs_s": empty_s,
                "sweep_s": sweep_s,
                "measuring_s": measuring_s,
                "final_table_s": table_s,
                "overhead_per_cell_ms": 1e3 * (sweep_s - measuring_s - table_s - empty_s) / number,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
