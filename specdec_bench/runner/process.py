"""The parent's handle on the measuring process."""

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from io import FileIO
from multiprocessing.connection import Connection
from pathlib import Path

from specdec_bench.archive import files
from specdec_bench.archive.redact import redact_text
from specdec_bench.errors import EngineError, SpecDecBenchError
from specdec_bench.runner.messages import Done, Failed, Interrupt, Progress, RunCell, Shutdown, Started
from specdec_bench.runner.process_log import LastWords, ended_how
from specdec_bench.runner.signals import StopSignals, held_back
from specdec_bench.runner.stall import StallWatch

STOP_TIMEOUT_S = 30.0
"""How long an engine may take to stop, and a measurement to end, before they are killed."""
STALLED_STOP_TIMEOUT_S = 5.0
"""The same for a stalled engine, where only the requests in flight are left to record."""
LAST_WORDS_TIMEOUT_S = 1.0
POLL_S = 0.1
"""How soon a stop signal is noticed."""


class MeasuringProcess:
    """A child that holds one engine. It outlives a cell, so that the next one can use the same engine."""

    def __init__(self, engine_key: str) -> None:
        self.engine_key = engine_key
        ours, theirs = socket.socketpair()
        # In its own session, Ctrl-C reaches only the parent, and the engine's processes can be killed with the child.
        with held_back():  # until the child has its handlers
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
        self._log: FileIO | None = None
        self._words = LastWords()
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
        stops: StopSignals,
    ) -> Done:
        """Measures the cell in the child; returns when every record is on disk.

        The first stop signal ends the measurement cleanly; a second one kills the child.

        Raises:
            SpecDecBenchError: as the child raised it.
            EngineError: the child died, or its engine stalled.
            ArchiveError: run.log cannot be written.
            KeyboardInterrupt: stopped before anything was measured, or twice, or the child did not end in time.
        """
        self._log_to(log_path)
        self._send(cell)
        watch = StallWatch(cell.config.engine.stall_timeout_s)
        reason: BaseException | None = None  # why the measurement was told to end
        deadline_s = 0.0
        while True:
            if reason is None:
                reason = self._why_to_stop(stops, watch)
                if reason is not None:
                    self._send(Interrupt())
                    is_stalled = isinstance(reason, EngineError)
                    deadline_s = time.monotonic() + (STALLED_STOP_TIMEOUT_S if is_stalled else STOP_TIMEOUT_S)
            elif stops.count > 1 or time.monotonic() > deadline_s:
                raise reason
            try:
                message = self._receive()
            except EOFError:
                self._process.wait()
                # A child that is told to stop while it is still starting ends itself.
                raise reason or EngineError(self._exit_reason()) from None
            match message:
                case Started():
                    on_started(message)
                    watch.start()
                case Progress():
                    on_progress(message)
                    watch.see(message)
                case Done() if isinstance(reason, EngineError):
                    raise reason
                case Done():
                    # Also if the signal came too late to interrupt anything: a sweep must end here.
                    return replace(message, interrupted=message.interrupted or reason is not None)
                case Failed(message=text):
                    error_class = message.error_class
                    if reason is not None and issubclass(error_class, EngineError):
                        raise reason  # an engine that got the signal too
                    raise error_class(text + self._cause(error_class, text))

    def _why_to_stop(self, stops: StopSignals, watch: StallWatch) -> BaseException | None:
        """Returns the exception that must end the measurement now, or None."""
        if stops.count:
            return KeyboardInterrupt()
        failure = watch.failure()
        return None if failure is None else EngineError(f"{failure}; its last words: {self._words.last_line}")

    def _send(self, message: object) -> None:
        # If the child is gone, `_receive` raises.
        with contextlib.suppress(OSError):
            self._connection.send(message)

    def _receive(self) -> object | None:
        """Returns the child's next message, or None if there is none for a moment.

        Raises:
            EOFError: the child is gone.
        """
        if not self._connection.poll(POLL_S):
            # The engine's own processes may hold the connection open after the child has died.
            if not self.is_alive and not self._connection.poll(0):
                raise EOFError
            return None
        try:
            message: object = self._connection.recv()
        except OSError:
            raise EOFError from None
        return message

    def _cause(self, error_class: type[SpecDecBenchError], text: str) -> str:
        """Returns what to add to an engine's error: often only the output of its processes states the reason."""
        if not issubclass(error_class, EngineError):
            return ""
        words = self._words
        self.kill()  # the engine is unusable, and after this all of its output has been read
        failure = words.first_failure
        if failure is None:
            return "; run.log may tell more"
        return "" if failure in text else f"; the first failure in run.log: {failure}"

    def _exit_reason(self) -> str:
        """Returns how the child ended, and the last line of its output."""
        how = ended_how(self._process.returncode)
        self._log_thread.join(LAST_WORDS_TIMEOUT_S)
        return f"the measuring process {how}; its last words: {self._words.last_line}"

    def _log_to(self, path: Path | None) -> None:
        """Sends the child's output to another file from now on."""
        with files.naming(path or Path()):
            # Unbuffered: a buffer would keep what a full disk refused, and fail again.
            before, self._log = self._log, None if path is None else path.open("ab", buffering=0)
        self._words = LastWords()
        if before is not None:
            before.close()

    def _read_log(self) -> None:
        """Copies the child's output, without secrets, into the log of its current or last cell."""
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                line = redact_text(line)
                self._words.add(line)
                log = self._log
                if log is not None:
                    # The log was just closed, or the disk is full: keep reading, so that the child does not block.
                    with contextlib.suppress(ValueError, OSError):
                        log.write(line.encode("utf-8", "backslashreplace"))

    def close(self) -> None:
        """Stops the engine; kills it if it does not stop in time, or at once on a stop signal."""
        with StopSignals() as stops:
            stopped_before = stops.count
            if self.is_alive:
                self._send(Shutdown())
            deadline_s = time.monotonic() + STOP_TIMEOUT_S
            while self.is_alive and stops.count == stopped_before and time.monotonic() < deadline_s:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(POLL_S)
            self.kill()

    def kill(self) -> None:
        """Ends the child and everything that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        # Its last output, such as a traceback, still belongs in the log.
        self._log_thread.join(LAST_WORDS_TIMEOUT_S)
        self._log_to(None)
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
    """Kills the live process: its engine cannot be trusted after a failure."""
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
