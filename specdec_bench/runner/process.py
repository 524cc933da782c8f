"""The parent's handle on the measuring process."""

import atexit
import collections
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TextIO

from specdec_bench import errors
from specdec_bench.errors import EngineError, SpecDecBenchError
from specdec_bench.runner.messages import Done, Failed, Interrupt, Progress, RunCell, Shutdown, Started

STOP_TIMEOUT_S = 30.0
"""How long an engine may take to stop before it is killed."""


class MeasuringProcess:
    """A child that holds one engine. It outlives a cell, so that the next one can use the same engine."""

    def __init__(self, engine_key: str) -> None:
        self.engine_key = engine_key
        ours, theirs = socket.socketpair()
        # A session of its own: Ctrl-C reaches only the parent, and the engine's own processes can be ended with it.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "specdec_bench.runner.worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
            errors="replace",
            env={**os.environ, "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": _python_path()},
        )
        theirs.close()
        self._connection = Connection(ours.detach())
        self._log: TextIO | None = None
        self._last_lines: collections.deque[str] = collections.deque(maxlen=20)
        self._log_thread = threading.Thread(target=self._read_log, daemon=True)
        self._log_thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the child can take another cell."""
        return self._process.poll() is None

    def run(
        self,
        cell: RunCell,
        log_path: Path,
        on_started: Callable[[Started], None],
        on_progress: Callable[[Progress], None],
    ) -> Done:
        """Has the cell measured; returns when every record is on disk.

        KeyboardInterrupt stops the measurement cleanly once; a second one kills the child.

        Raises:
            SpecDecBenchError: as the child raised it.
            EngineError: the child died.
            KeyboardInterrupt: before anything was measured, or for the second time.
        """
        interrupted = False
        with self._logging_to(log_path):
            self._connection.send(cell)
            while True:
                try:
                    message = self._receive()
                except KeyboardInterrupt:
                    if interrupted:
                        self.kill()
                        raise
                    interrupted = True
                    self._connection.send(Interrupt())
                    continue
                except EOFError:
                    self._process.wait()
                    if interrupted:  # it was still starting, and ended itself
                        raise KeyboardInterrupt from None
                    raise EngineError(self._obituary()) from None
                match message:
                    case Started():
                        on_started(message)
                    case Progress():
                        on_progress(message)
                    case Done():
                        return message
                    case Failed(error=name, message=text):
                        error_class = getattr(errors, name, EngineError)
                        assert issubclass(error_class, SpecDecBenchError)
                        raise error_class(text)

    @contextlib.contextmanager
    def _logging_to(self, path: Path) -> Iterator[None]:
        with path.open("a", encoding="utf-8") as self._log:
            try:
                yield
            finally:
                self._log = None

    def _receive(self) -> object:
        """Returns the child's next message.

        Raises:
            EOFError: the child is gone.
        """
        while not self._connection.poll(1.0):
            # The engine's own processes may hold the connection open after the child has died.
            if not self.is_alive and not self._connection.poll(0):
                raise EOFError
        try:
            message: object = self._connection.recv()
        except OSError:
            raise EOFError from None
        return message

    def _obituary(self) -> str:
        """Returns how the child ended, and its last words."""
        code = self._process.returncode
        if code is not None and code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
            if -code == signal.SIGKILL:
                how += " (out of memory?)"
        else:
            how = f"exited with status {code}"
        self._log_thread.join(timeout=1.0)
        words = next((line.strip() for line in reversed(self._last_lines) if line.strip()), "none")
        return f"the measuring process {how}; its last words: {words}"

    def _read_log(self) -> None:
        """Copies the child's output into the running cell's log."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._last_lines.append(line)
            log = self._log
            if log is not None:
                with contextlib.suppress(ValueError):  # closed between two cells
                    log.write(line)
                    log.flush()

    def close(self) -> None:
        """Stops the engine; kills what does not stop in time."""
        if self.is_alive:
            with contextlib.suppress(OSError):
                self._connection.send(Shutdown())
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_TIMEOUT_S)
        self.kill()

    def kill(self) -> None:
        """Ends the child and everything that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._connection.close()


_current: MeasuringProcess | None = None


def process_for(engine_key: str) -> MeasuringProcess:
    """Returns the live process that holds this engine, or a new one after the last has stopped."""
    global _current  # one engine at a time owns the machine, for the life of this process
    if _current is None or _current.engine_key != engine_key or not _current.is_alive:
        end_process()
        _current = MeasuringProcess(engine_key)
    return _current


def discard_process() -> None:
    """Kills the live process: after a failure its engine is not to be trusted."""
    global _current
    if _current is not None:
        _current.kill()
        _current = None


@atexit.register
def end_process() -> None:
    """Stops the live process, if there is one."""
    global _current
    if _current is not None:
        _current.close()
        _current = None


def _python_path() -> str:
    """Returns PYTHONPATH with this package's folder, so that the child finds it wherever it was started from."""
    here = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
