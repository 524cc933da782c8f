"""Compares plain decoding with itself, as an A/A test: `python benchmarks/a_a_test.py --pairs 20`.

Runs the same plain cell of vLLM and the bundled model again and again on one engine and takes every second run for a
baseline, the others for a method, `--runs` of each together. Counts the comparisons whose 95% interval of the speedup
holds 1. Prints one JSON object.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from specdec_bench.archive.layout import RunDirectory
from specdec_bench.compare.speedup import RunTimes, Speedups, speedup

ROOT = Path(__file__).resolve().parents[1]
SPEEDUPS = ("speedup_tpot", "speedup_e2e", "speedup_throughput")


def main() -> None:
    """Prints the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20, help="comparisons")
    parser.add_argument("--runs", type=int, default=5, help="of either side of one; 1: what one run's interval holds")
    parser.add_argument("--folder", help="keeps the sweep there; a temporary one by default")
    parser.add_argument("overrides", nargs="*", help="of the cell: load.concurrency=16 load.repeats=5")
    options = parser.parse_args()
    kept = contextlib.nullcontext(options.folder) if options.folder else tempfile.TemporaryDirectory()
    with kept as folder:
        cell = ["engine=vllm", "engine.enforce_eager=true", "spec=none", *options.overrides]
        num_cells = 2 * options.pairs * options.runs
        grid = [f"replicate=range(0,{num_cells})", f"hydra.sweep.dir={folder}/sweep"]
        subprocess.run(
            [sys.executable, str(ROOT / "run.py"), "-m", *cell, *grid], check=True, stdout=subprocess.DEVNULL
        )
        times = [RunTimes(RunDirectory.open(f"{folder}/sweep/{job}").requests()) for job in range(num_cells)]
    sides = zip(*(batch(times[side::2], options.runs) for side in (0, 1)), strict=True)
    results = [speedup(baseline, method) for baseline, method in sides]
    of = {"pairs": options.pairs, "runs": options.runs, "cell": cell}
    print(json.dumps(of | {name: count_holding_1(results, name) for name in SPEEDUPS}))


def batch(times: list[RunTimes], size: int) -> list[list[RunTimes]]:
    """Returns neighbours together."""
    return [times[start : start + size] for start in range(0, len(times), size)]


def count_holding_1(results: list[Speedups], name: str) -> dict[str, Any]:
    """Returns how many of the intervals hold 1, and all of them."""
    intervals = [
        [round(getattr(getattr(result, name), end), 4) for end in ("value", "low", "high")] for result in results
    ]
    return {"hold_1": sum(low <= 1 <= high for _, low, high in intervals), "value_low_high": intervals}


if __name__ == "__main__":
    main()
