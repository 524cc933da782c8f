"""Runs the real vLLM through the command line. A machine without vLLM fails here; that is meant."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from specdec_bench.archive import RunDirectory
from specdec_bench.records import RequestRecord

ROOT = Path(__file__).resolve().parents[2]
VLLM = ["engine=vllm", "engine.enforce_eager=true"]  # compiling takes longer than the runs


def command_line(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    # Nested child processes start several times faster with compiled modules.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        encoding="utf-8",
    )


def succeed(folder: Path, *arguments: str) -> None:
    done = command_line(folder, *arguments)
    assert done.returncode == 0, done.stderr[-2000:]


def requests(run: RunDirectory) -> dict[str, RequestRecord]:
    return {record.request_id: record for record in run.requests() if record.phase == "measure"}


def pooled(run: RunDirectory) -> dict[str, Any]:
    figures: dict[str, Any] = run.summary()["acceptance"]["pooled"]
    return figures
