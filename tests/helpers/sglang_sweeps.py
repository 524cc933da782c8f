"""Runs the real SGLang through the command line, in its own environment and on the kernels of tests/sglang_cpu."""

from pathlib import Path

from tests.helpers.engine_sweeps import ROOT, Cells, grid_once

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


def sglang_sweep(folder: Path, engine: str) -> Cells:
    """Returns what SGLang makes of the prompts.

    Args:
        folder: where the sweep is, or will be.
        engine: sglang or sglang_server.
    """
    return grid_once(folder, f"engine={engine}", *SETTINGS, python=PYTHON, environment=ENVIRONMENT)
