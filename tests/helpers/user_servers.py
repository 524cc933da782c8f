"""Servers that run already, as users start them: by hand, with a key."""

import contextlib
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import psutil

from tests.helpers.engine_sweeps import FORKED, environment_of

START_TIMEOUT_S = 600
STOP_TIMEOUT_S = 60
OTHER_EXPERIMENTS = [
    (["engine.api_key_env=THE_KEY", "spec=draft_model", "spec.draft_length=5"], "spec.draft_length=5"),
    (["engine.api_key_env=THE_KEY", "spec=none"], "spec=none"),
    (["spec=draft_model"], "the server wants a key"),
]
"""Overrides that a server with a key and three drafts of a draft model refuses, and what the refusal says."""


class Running(NamedTuple):
    """A server that was started by other means than a run."""

    url: str
    environment: dict[str, str]
    """Of a run that attaches itself to it with `engine.api_key_env=THE_KEY`."""
    key: str


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def as_flags(arguments: Mapping[str, object]) -> list[str]:
    return [word for name, value in arguments.items() for word in (f"--{name}", str(value))]


@contextlib.contextmanager
def running(
    module: str,
    words: Sequence[str],
    *,
    key_variable: str | None = None,
    python: str = sys.executable,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """Runs `python -m MODULE` on a free port of this machine until the end of the block.

    Args:
        module: of the server.
        words: its arguments, but for host, port and key.
        key_variable: the environment variable from which it reads its key; None passes --api-key.
        python: of its environment.
        environment: in addition to this process's.
    """
    key, port = secrets.token_hex(), free_port()
    more = dict(environment or {}) | ({} if key_variable is None else {key_variable: key})
    key_flag = [] if key_variable else ["--api-key", key]
    server = subprocess.Popen(
        [python, "-m", module, "--host", "127.0.0.1", "--port", str(port), *words, *key_flag],
        env=environment_of(more, FORKED),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_healthy(server, url)
        yield Running(url, {"THE_KEY": key}, key)
    finally:
        below = psutil.Process(server.pid).children(recursive=True)
        server.terminate()
        psutil.wait_procs([*below, psutil.Process(server.pid)], timeout=STOP_TIMEOUT_S)
        for process in below:
            if process.is_running():
                process.kill()
        server.kill()
        server.wait()


def _wait_until_healthy(server: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        assert server.poll() is None
        assert time.monotonic() < deadline
        try:
            urllib.request.urlopen(f"{url}/health", timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
