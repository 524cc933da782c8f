"""A server that the run starts, under a supervisor that outlives nothing."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence

STOP_TIMEOUT_S = 25.0
"""Longer than the supervisor's two grace periods."""


class ServerProcess:
    """A server under its supervisor. Its output goes where this process's does, which is run.log."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Starts it. Secrets belong into the environment, never into the command."""
        self._supervisor = subprocess.Popen(
            [sys.executable, "-m", "specdec_bench.engines.server.supervisor", *command],
            stdin=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            start_new_session=True,
        )

    @property
    def exit_status(self) -> int | None:
        """How it ended; None while it runs."""
        return self._supervisor.poll()

    def stop(self) -> None:
        """Ends the server and all that it spawned."""
        assert self._supervisor.stdin is not None
        self._supervisor.stdin.close()
        try:
            self._supervisor.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._supervisor.kill()
            self._supervisor.wait()


def free_port() -> int:
    """Returns a port of this machine that is free now. Another process may take it before the server does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
