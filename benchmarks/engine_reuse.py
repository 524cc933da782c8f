"""What sharing engines between cells saves: `python benchmarks/engine_reuse.py`.

Runs a grid of 2 draft lengths x 3 concurrencies on vLLM and the bundled models, counts the engines that it started,
and compares the time of the grid with what it would have taken with a start for every cell. Prints one JSON object.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Prints the figures."""
    with tempfile.TemporaryDirectory() as folder:
        sweep = Path(folder) / "sweep"
        began = time.perf_counter()
        subprocess.run(
            [
                sys.executable,
                str(ROOT / "run.py"),
                "-m",
                "engine=vllm",
                "engine.enforce_eager=true",
                "spec=draft_model",
                "spec.draft_length=1,3",
                "load.concurrency=1,4,16",
                "sampling.max_new_tokens=32",
                f"hydra.sweep.dir={sweep}",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        grid_s = time.perf_counter() - began
        engines: list[dict[str, Any]] = [
            json.loads(path.read_bytes())["engine"] for path in sorted(sweep.glob("*/manifest.json"))
        ]
    starts_s = [engine["start_s"] for engine in engines if not engine["reused"]]
    saved_s = sum(engine["start_s"] for engine in engines if engine["reused"])
    print(
        json.dumps(
            {
                "cells": len(engines),
                "engines_started": len(starts_s),
                "engine_starts_s": starts_s,
                "grid_s": grid_s,
                "without_sharing_to_grid": (grid_s + saved_s) / grid_s,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
