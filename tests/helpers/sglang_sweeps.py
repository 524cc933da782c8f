"""Runs the real SGLang through the command line, in its own environment and on the kernels of tests/sglang_cpu."""

import fcntl
from pathlib import Path

from specdec_bench.archive import RunDirectory
from tests.helpers.engine_sweeps import COMMON, ROOT, cells, sweep

METHODS = ("none", "ngram", "draft_model", "eagle3")
CONCURRENCIES = (1, 16)
PYTHON = str(ROOT / ".venv-sglang/bin/python")
ENVIRONMENT = {"SGLANG_USE_CPU_ENGINE": "1", "PYTHONPATH": str(ROOT / "tests/sglang_cpu")}
SETTINGS = (
    "engine.enforce_eager=true",
    # Its attention for CPUs, which it takes back where the processor lacks AMX, unless it is set for both phases.
    "engine.attention_backend=torch_native",
    "+engine.extra_args.prefill_attention_backend=intel_amx",
    "+engine.extra_args.decode_attention_backend=intel_amx",
    "+engine.extra_args.device=cpu",
    "+engine.extra_args.max_total_tokens=16384",
)
Cells = dict[tuple[str, int], RunDirectory]
"""The finished cells by method and concurrency."""


def sglang_sweep(folder: Path, engine: str) -> Cells:
    """Returns what SGLang makes of the prompts. The first process to ask runs the sweep.

    Args:
        folder: where the sweep is, or will be.
        engine: sglang or sglang_server.
    """
    grid = [f"spec={','.join(METHODS)}", f"load.concurrency={','.join(map(str, CONCURRENCIES))}"]
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / "sweep" / "sweep.csv").is_file():
            runs = cells(folder)
        else:
            arguments = [f"engine={engine}", *SETTINGS, *COMMON, *grid]
            runs = sweep(folder, *arguments, python=PYTHON, environment=ENVIRONMENT)
    names = [(method, concurrency) for method in METHODS for concurrency in CONCURRENCIES]
    return dict(zip(names, runs, strict=True))
