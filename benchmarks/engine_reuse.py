"""What sharing engines between cells saves: `python benchmarks/engine_reuse.py`.

Runs a grid of 2 methods x 2 draft lengths x 3 concurrencies on vLLM and the bundled models, the plain cells that it is
compared with added, counts the engines that it started, and then runs the same 15 cells in a process each. Time outside
measuring is that of the commands less the measured windows. Prints one JSON object.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from specdec_bench.archive.layout import RunDirectory

ROOT = Path(__file__).resolve().parents[1]
COMMON = ["engine=vllm", "engine.enforce_eager=true", "engine.max_num_seqs=16", "sampling.max_new_tokens=32"]
GRID = ["spec=ngram,draft_model", "spec.draft_length=1,3", "load.concurrency=1,4,16", "baseline=auto"]


def seconds_of(*arguments: str) -> float:
    """Returns how long run.py took with these arguments.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    began = time.perf_counter()
    subprocess.run([sys.executable, str(ROOT / "run.py"), *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def measuring_s(run: Path) -> float:
    """Returns the length of a run's measured window."""
    seconds = RunDirectory.open(run).summary().throughput.duration_s
    assert seconds is not None
    return seconds


def main() -> None:
    """Prints the measurements."""
    with tempfile.TemporaryDirectory() as folder:
        sweep = Path(folder) / "sweep"
        grid_s = seconds_of("-m", *COMMON, *GRID, f"hydra.sweep.dir={sweep}")
        cells = [path.parent for path in sorted(sweep.glob("*/manifest.json"))]
        manifests = [RunDirectory.open(cell).manifest() for cell in cells]
        grid_outside_s = grid_s - sum(map(measuring_s, cells))
        alone_outside_s = 0.0
        for cell, manifest in zip(cells, manifests, strict=True):
            alone = Path(folder) / "alone" / cell.name
            # A run by itself has no baseline.
            overrides = [override for override in manifest.overrides if not override.startswith("baseline=")]
            alone_outside_s += seconds_of(*overrides, f"hydra.run.dir={alone}") - measuring_s(alone)
            assert RunDirectory.open(alone).manifest().cell_id == manifest.cell_id
    print(
        json.dumps(
            {
                "cells": len(cells),
                "engines_started": sum(not manifest.engine.reused for manifest in manifests),
                "grid_s": grid_s,
                "grid_outside_measuring_s": grid_outside_s,
                "one_process_each_outside_measuring_s": alone_outside_s,
                "ratio": grid_outside_s / alone_outside_s,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
