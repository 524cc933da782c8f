"""Runs a server and ends everything that it spawned: `python -m specdec_bench.engines.server.supervisor COMMAND...`.

A server starts processes of its own, which live on if it is killed alone. This process adopts them (it is a subreaper)
and ends them all once its stdin is closed, which also happens when the process that holds the other end is killed. It
imports little, because it starts with every server.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys

import psutil

GRACE_S = 10.0
"""How long processes may take to end by themselves."""
POLL_S = 0.2
PR_SET_CHILD_SUBREAPER = 36
"""Source: prctl(2)."""


def main(command: list[str]) -> int:
    """Runs the command until it ends or stdin is closed. Returns its exit status once nothing of it is left."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the pipe alone says when to end
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_take_signals)
    while server.poll() is None:
        readable, _, _ = select.select([sys.stdin], [], [], POLL_S)
        if readable and not os.read(sys.stdin.fileno(), 4096):
            break
    _end(signal.SIGTERM)
    _end(signal.SIGKILL)
    return server.wait()


def _take_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _end(number: signal.Signals) -> None:
    """Signals all descendants, and waits until they are gone or the grace period is over."""
    found = psutil.Process().children(recursive=True)
    for process in found:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(found, timeout=GRACE_S)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
