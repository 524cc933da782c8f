"""Records small enough to check by hand."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from specdec_bench.records.manifest import Manifest
from specdec_bench.records.request import Prompt, RequestRecord, Step
from tests.helpers import build

CONFIG: dict[str, Any] = {
    "engine": {"name": "synthetic"},
    "model": {"name": "tiny"},
    "dataset": {"name": "demo"},
    "spec": {"name": "ngram", "draft_length": 3},
    "load": {"name": "closed", "concurrency": 2},
    "sampling": {"temperature": 0.0},
    "seed": 7,
}
CONFIG_YAML = "seed: 7\n"

HOSTILE = (
    "plain",
    "",
    "\n\r\n",
    "\x00 null and \x1f control",
    "line\u2028separator\u2029paragraph\x85next\x0bvertical\x0cform\x1cfile",
    "\ud800 high alone",
    "low alone \udfff",
    "two low \udc80\udc80",
    "wrong way round \udc00\ud800",
    "\U0001f600 and \ud83d",
    'quotes " and \\ and \\u2028 spelt out and \\ud800',
    "\\\u2028",
    "\ufeff\ufffe\uffff",
)
"""What model output and datasets have been seen to hold, and worse."""


def make_manifest(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "status": "started",
        "created_utc": "2026-01-02T03:04:05.000006+00:00",
        "command": ("run.py", "spec=ngram"),
        "overrides": ("spec=ngram",),
        "config": CONFIG,
        "project": {"version": "0.1.0"},
    }
    return build.manifest(**(values | changes))


def make_prompt(number: int = 0, **changes: Any) -> Prompt:
    values: dict[str, Any] = {"category": "writing", "turns": ("one", "two")}
    return build.prompt(f"p{number}", **(values | changes))


def make_request(number: int = 0, **changes: Any) -> RequestRecord:
    """A request of 4 prompt and 6 output tokens: the prefill's, then steps of 3 and of 2, 10 ms apart."""
    steps = (
        Step(received_ns=50_000_000, num_tokens=1),
        Step(received_ns=60_000_000, num_tokens=3, num_proposed=3, num_accepted=2),
        Step(received_ns=70_000_000, num_tokens=2, num_proposed=3, num_accepted=1),
    )
    values: dict[str, Any] = {
        "request_id": f"r{number}",
        "prompt_id": f"p{number}",
        "category": "writing",
        "scheduled_ns": 9_000_000,
        "sent_ns": 10_000_000,
        "prompt_token_ids": (1, 2, 3, 4),
        "output_token_ids": (5, 6, 7, 8, 9, 10),
        "acceptance_source": "stream",
        "seed": 2**63,
    }
    return build.request(**({"steps": steps} | values | changes))


def start_python(script: str, *arguments: str | Path) -> "subprocess.Popen[bytes]":
    """Starts a script in a process of its own, in which the project and the tests can be imported."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    return subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], env=environment)
