"""Runs run.py for at most so long. A sweep that is stopped so can be resumed."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STOP_TIMEOUT_S = 25.0
"""What a stopped sweep may take to end its engine and to write its tables."""


def run_for(seconds: float | None, *arguments: str) -> int:
    """Runs run.py, and stops it after that time as by Ctrl-C; None lets it run to its end. Returns its exit status."""
    with subprocess.Popen([sys.executable, str(ROOT / "run.py"), *arguments]) as process:
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.terminate()
        try:
            return process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.terminate()  # ends without waiting for the engine
            return process.wait()
