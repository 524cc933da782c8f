"""What an engine's package tells when another process imports it.

A process that measures a server must not import the engine, whose threads and memory would be in its way.
"""

import subprocess
import sys
from typing import TypeVar

import msgspec

T = TypeVar("T")

TIMEOUT_S = 300.0


def ask(module: str, kind: type[T]) -> T | str:
    """Runs a module that prints one line of JSON, and returns what it says.

    Args:
        module: its last line of output is a `kind`, or a text that says why there is none.
        kind: a struct or a dataclass.

    Returns:
        The answer, or why there is none.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", module],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"importing it took more than {TIMEOUT_S:.0f} s"
    line = (done.stdout.splitlines() or [b""])[-1]  # what is imported may print too
    try:
        return msgspec.json.decode(line, type=kind | str)
    except msgspec.DecodeError:
        return f"importing it ended with status {done.returncode}"
