"""A forked process of tests/helpers/fork_server.py is what a new one would be."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import fork_server
from tests.helpers.fork_server import ForkedProcess, can_fork

SHOW = """\
import json, os, signal, sys
shown = {
    "argv": sys.argv, "name": __name__, "folder": os.getcwd(), "environment": dict(os.environ),
    "stdin": sys.stdin.read(), "leader": os.getsid(0) == os.getpid(),
    "masked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])), "errors": [sys.stdout.errors, sys.stderr.errors],
    "encodings": [sys.stdout.encoding, sys.stderr.encoding], "inherited": os.read(int(sys.argv[1]), 9).decode(),
    "handlers": [str(signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE)],
    "path": sys.path[0],
}
sys.stderr.write("said")
print(json.dumps(shown))
"""


def start(kind: Any, script: Path, *arguments: str, **options: Any) -> Any:
    return kind([sys.executable, str(script), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def written(folder: Path, text: str) -> Path:
    script = folder / "script.py"
    script.write_text(text)
    return script


@pytest.mark.parametrize("is_leader", [True, False])
def test_it_has_what_it_was_started_with(tmp_path: Path, is_leader: bool) -> None:
    shown = []
    for kind in (ForkedProcess, subprocess.Popen):
        ours, theirs = os.pipe()
        os.write(theirs, b"inherited")
        options: dict[str, Any] = {"cwd": tmp_path, "env": {**os.environ, "MINE": "1"}, "pass_fds": [ours]}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        try:
            process = start(
                kind,
                written(tmp_path, SHOW),
                str(ours),
                stdin=subprocess.DEVNULL,
                start_new_session=is_leader,
                text=True,
                **options,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        stdout, stderr = process.communicate(timeout=60)
        assert (process.wait(), stderr) == (0, "said")
        shown.append(json.loads(stdout))
        os.close(ours)
        os.close(theirs)
    forked, new = shown
    assert forked.pop("path") == str(fork_server.ROOT)  # as of run.py, the only script that is forked
    assert new.pop("path") == str(tmp_path)
    assert forked == new


@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        ("raise SystemExit(3)", 3, ""),
        ("raise SystemExit('no')", 1, "no\n"),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9, ""),
        ("import atexit, sys; atexit.register(sys.stderr.write, 'end')", 0, "end"),
    ],
)
def test_it_ends_as_a_new_one_does(tmp_path: Path, text: str, status: int, words: str) -> None:
    process = start(ForkedProcess, written(tmp_path, text))
    stdout, stderr = process.communicate(timeout=60)
    assert (process.wait(), process.poll(), stdout) == (status, status, "")
    assert words in stderr
    assert words or not stderr


def test_one_that_does_not_end_is_killed(tmp_path: Path) -> None:
    process = start(ForkedProcess, written(tmp_path, "import time; print(1, flush=True); time.sleep(600)"))
    assert process.stdout.readline() == b"1\n"
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.communicate(timeout=0.01)
    assert process.wait(60) == -signal.SIGKILL


def test_what_python_reads_when_it_starts_needs_a_new_process() -> None:
    assert can_fork({**os.environ, "THE_KEY": "x"})
    for name in ("PYTHONIOENCODING", "LC_ALL", "HF_HOME", "HOME"):
        assert not can_fork({**os.environ, name: "other"}), name
