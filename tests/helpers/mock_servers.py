"""Runs the mock servers of this folder as processes of their own."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.helpers.command_line import ROOT


@contextlib.contextmanager
def serving(module: str, fault: str = "", **environment: str) -> Iterator[str]:
    """Runs a mock server, and gives its address.

    Args:
        module: its name.
        fault: one of its `FAULTS`; empty for none.
        environment: in addition to this process's.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", f"tests.helpers.{module}", fault],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def assert_is_nowhere(secret: str, folder: Path) -> None:
    """No file below the folder holds the secret."""
    for path in folder.rglob("*"):
        assert path.is_dir() or secret.encode() not in path.read_bytes(), path
