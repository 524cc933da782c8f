"""Runs the mock servers of this folder as processes of their own."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from specdec_bench.archive import RunDirectory
from tests.helpers.command_line import ROOT, Outcome


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
        scheme = "https" if "MOCK_CERTIFICATE" in environment else "http"
        yield f"{scheme}://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def assert_is_nowhere(secret: str, folder: Path) -> None:
    """No file below the folder holds the secret."""
    for path in folder.rglob("*"):
        assert path.is_dir() or secret.encode() not in path.read_bytes(), path


def assert_refused(outcome: Outcome, run: Path, words: str) -> None:
    """The command was refused with these words, before a request was measured."""
    assert outcome.status == 2
    assert words in outcome.error
    assert not (run / "requests.jsonl").exists()


def assert_all_but_one_failed(run: Path, words: str) -> None:
    """One measured request finished; the others failed, each with these words."""
    records = [record for record in RunDirectory.open(run).requests() if record.phase == "measure"]
    failed = [record.error.message for record in records if record.error is not None]
    assert len(records) - len(failed) == 1
    assert failed
    assert all(words in message for message in failed)
