"""The processes that send a cell's requests, where one would be late, as the process that measures sees them.

That process leads: it starts or attaches to the engine, warms it up, and sends nothing while they do. They share one
start, one schedule, and the archive, which the leader writes.
"""

import asyncio
import contextlib
import math
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

from specdec_bench.archive.writer import RequestWriter
from specdec_bench.errors import ArchiveError, EngineError
from specdec_bench.records.manifest import Lateness
from specdec_bench.runner.messages import Assignment, Batch, Begin, Counts, Ended, Interrupt, Ready
from specdec_bench.runner.process_log import ended_how
from specdec_bench.runner.signals import held_back

LEAD_NS = 100_000_000
"""From when the clients are told when to begin until they do: each of them knows it by then."""
STOP_TIMEOUT_S = 10.0
"""How long a client may take to record what is in flight, once it is told to stop."""
BEGIN_TIMEOUT_S = 60.0
"""How long a client may take, at least, to import what it needs. From then on it reports a few times a second."""
EXIT_TIMEOUT_S = 5.0


class Clients:
    """All of them, for one cell. They start with the block, and none is left after it."""

    def __init__(self, number: int, writer: RequestWriter) -> None:
        """Takes how many there are, and where their records go."""
        self.number = number
        self._writer = writer
        self._live = Counts()
        self._counting = threading.Lock()
        self._clients: list[_Client] = []

    def __enter__(self) -> Self:
        """Starts the processes, which import what they need while the leader warms up."""
        with tempfile.TemporaryFile() as claims:
            for index in range(self.number):
                self._clients.append(_Client(f"client {index + 1} of {self.number}", claims.fileno()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Ends the processes."""
        for client in self._clients:
            client.close()

    async def prepare(self, assignment: Assignment) -> None:
        """Waits until all are ready to send their shares.

        Raises:
            SpecDecBenchError: one of them failed.
        """
        for index, client in enumerate(self._clients):
            client.begin_to_serve(replace(assignment, index=index), self._take)
        await self._wait_for(client.ready for client in self._clients)

    async def run(self, live: Counts) -> None:
        """Lets all begin at one time, and returns when every record of theirs has been handed to the writer.

        If cancelled, or if one of them fails, the others record what is in flight and stop.

        Args:
            live: gets the sums of their counts.

        Raises:
            SpecDecBenchError: the first failure.
        """
        self._live = live
        self._tell(Begin(begins_ns=time.perf_counter_ns() + LEAD_NS))
        try:
            await self._wait_for(client.ended for client in self._clients)
        finally:
            if running := [client.ended for client in self._clients if not client.ended.done()]:
                self._tell(Interrupt())
                await asyncio.wait(running, timeout=STOP_TIMEOUT_S)

    @property
    def lateness(self) -> Lateness | None:
        """That of the client whose loop was latest; None if no window was long enough to measure one."""
        found = [client.lateness for client in self._clients if client.lateness is not None]
        return max(found, key=lambda late: max(late.mean_ms or 0, late.p50_ms), default=None)

    async def _wait_for(self, futures: Iterable["asyncio.Future[None]"]) -> None:
        done, _ = await asyncio.wait(list(futures), return_when=asyncio.FIRST_EXCEPTION)
        failures = [error for future in done if (error := future.exception()) is not None]
        if failures:
            raise failures[0]

    def _tell(self, message: object) -> None:
        for client in self._clients:
            client.send(message)

    def _take(self, lines: bytes) -> None:
        """Takes records of a client, and counts anew. Called in the clients' threads."""
        if lines:
            with contextlib.suppress(ArchiveError):  # the writer has told, and raises it when it is closed
                self._writer.append_lines(lines)
        with self._counting:
            self._live.take_sums(client.counts for client in self._clients)


class _Client:
    """One process. A thread of this one reads what it sends."""

    def __init__(self, name: str, claims: int) -> None:
        """Starts it.

        Args:
            name: for messages.
            claims: a file whose offset is the number of conversations that clients have claimed.
        """
        self.counts = Counts()
        self.lateness: Lateness | None = None
        self._name = name
        self._loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._socket, theirs = socket.socketpair()
        with held_back(), theirs:  # until it has its handlers
            self._process = subprocess.Popen(
                [sys.executable, "-m", "specdec_bench.runner.client", str(theirs.fileno()), str(claims)],
                pass_fds=[theirs.fileno(), claims],
                stdin=subprocess.DEVNULL,
            )
        self._connection = Connection(os.dup(self._socket.fileno()))
        self._thread: threading.Thread | None = None

    def begin_to_serve(self, assignment: Assignment, take: Callable[[bytes], None]) -> None:
        """Gives it its share, and reads in a thread of its own what it sends.

        Args:
            assignment: the share.
            take: called in that thread with the records that have come, which may be none.
        """
        self._thread = threading.Thread(target=self._serve, args=(assignment, take), daemon=True)
        self._thread.start()

    def send(self, message: object) -> None:
        """Sends a message. If the process is gone, `ended` says so."""
        with contextlib.suppress(OSError):
            self._connection.send(message)

    def close(self) -> None:
        """Ends the process, which stops when its connection does."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(EXIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._thread is not None:
            self._thread.join()
        self._connection.close()
        self._socket.close()

    def _serve(self, assignment: Assignment, take: Callable[[bytes], None]) -> None:
        stall_timeout_s = assignment.config.engine.stall_timeout_s
        # Half of it, so that this is noticed before the parent, which sees no token either, blames the engine.
        silence_s = None if stall_timeout_s is None else stall_timeout_s / 2
        patience_s = None if silence_s is None else max(silence_s, BEGIN_TIMEOUT_S)
        try:
            self._limit_sending(patience_s)
            self._connection.send(assignment)
            while self._connection.poll(patience_s):
                patience_s = silence_s
                match self._connection.recv():
                    case Ready():
                        self._settle(self.ready)
                    case Batch(lines=lines, counts=counts):
                        self.counts = counts
                        take(lines)
                    case Ended(lateness=lateness, failure=failure):
                        self.lateness = lateness
                        error = None if failure is None else failure.error_class(failure.message)
                        self._settle(self.ready, error)
                        self._settle(self.ended, error)
                        return
            raise TimeoutError
        except (TimeoutError, BlockingIOError):
            self._process.kill()  # a stopped process ends by nothing else
            self._process.wait()
            why = "half of engine.stall_timeout_s" if patience_s == silence_s else "which is enough to start"
            self._fail(f"has stopped: it reported nothing for {patience_s:g} s, {why}")
        except (EOFError, OSError):
            self._process.wait()
            self._fail(ended_how(self._process.returncode))

    def _limit_sending(self, timeout_s: float | None) -> None:
        """Lets no message take longer: a process that reads nothing takes in no more than the socket's buffer."""
        limit = struct.pack("ll", math.ceil(timeout_s or 0), 0)  # a timeval; 0 waits for ever
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def _fail(self, how: str) -> None:
        error = EngineError(f"{self._name} {how}; what it had in flight is lost")
        self._settle(self.ready, error)
        self._settle(self.ended, error)

    def _settle(self, future: "asyncio.Future[None]", error: Exception | None = None) -> None:
        """Ends a future from the thread, unless it has ended."""

        def settle() -> None:
            if future.done():
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
                future.exception()  # whoever waits for another one of them may not ask for this one

        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(settle)
