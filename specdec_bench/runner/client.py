"""A client: a process that sends its share of a cell's requests, `python -m specdec_bench.runner.client FD CLAIMS`.

It attaches to an engine that its leader has started, and hands the leader its records. It ends when the connection to
the leader does.
"""

import asyncio
import contextlib
import logging
import os
import queue
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Self, cast

from specdec_bench.archive import codec
from specdec_bench.archive.redact import adopt
from specdec_bench.checkpoints import chat
from specdec_bench.checkpoints.prompter import Prompter
from specdec_bench.config import plugins
from specdec_bench.engines.base import SharedEngine, create
from specdec_bench.errors import ArchiveError, SpecDecBenchError
from specdec_bench.load.base import Share
from specdec_bench.records.request import RequestRecord
from specdec_bench.runner import signals
from specdec_bench.runner.measure import Measurement
from specdec_bench.runner.messages import Assignment, Batch, Begin, Counts, Ended, Failed, Interrupt, Ready

PERIOD_S = 0.2
"""How often the leader gets the counts, at least."""


class Outbox:
    """A thread that encodes finished requests and sends them to the leader, as `RequestWriter` writes them."""

    def __init__(self, connection: Connection) -> None:
        self.counts = Counts()
        """What to tell with each batch; the measuring loop changes it."""
        self._connection = connection
        self._queue: queue.SimpleQueue[RequestRecord | None] = queue.SimpleQueue()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def append(self, record: RequestRecord) -> None:
        """Hands a record to the thread; costs an enqueue.

        Raises:
            ArchiveError: an earlier record could not be sent.
        """
        self._raise_error()
        self._queue.put(record)

    def __enter__(self) -> Self:
        """Starts the thread."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Waits until everything has been sent.

        Raises:
            ArchiveError: a record could not be sent.
        """
        self._queue.put(None)
        self._thread.join()
        self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise ArchiveError(f"requests of a client are lost: {self._error}") from self._error

    def _run(self) -> None:
        open_ended = True
        while open_ended:
            batch: list[RequestRecord | None] = []
            with contextlib.suppress(queue.Empty):
                batch.append(self._queue.get(timeout=PERIOD_S))
                while batch[-1] is not None and not self._queue.empty():
                    batch.append(self._queue.get_nowait())
            open_ended = not batch or batch[-1] is not None
            if self._error is not None:
                continue
            try:
                lines = b"".join([codec.encode_line(record) for record in batch if record is not None])
                self._connection.send(Batch(lines=lines, counts=replace(self.counts)))
            except Exception as error:  # noqa: BLE001  (kept for the loop, in whose thread it must surface)
                self._error = error


class SingleTurns:
    """Stands in for a tokenizer, which takes seconds to load, where every first request is encoded and none follows."""

    def __init__(self, stop_token_ids: tuple[int, ...]) -> None:
        self.stop_token_ids = stop_token_ids

    def ordinary_token_ids(self) -> Sequence[int]:
        """Is never called."""
        raise NotImplementedError

    def encode(self, system: str | None, turns: Sequence[str], replies: Sequence[str]) -> tuple[int, ...]:
        """Is never called."""
        raise NotImplementedError

    def decode(self, token_ids: Sequence[int]) -> str:
        """Is never called."""
        raise NotImplementedError

    def reply(self, token_ids: Sequence[int]) -> str:
        """Is never called."""
        raise NotImplementedError


class Client:
    """Sends one share."""

    def __init__(self, connection: Connection, assignment: Assignment, claims: int) -> None:
        """Takes the connection to the leader, what it wants, and the file whose offset counts claimed conversations."""
        self._connection = connection
        self._assignment = assignment
        self._claims = claims
        self._measurement: Measurement | None = None

    async def serve(self) -> None:
        """Sends the share's requests, and then how that ended."""
        failure: Failed | None = None
        try:
            await self._send_share()
        except asyncio.CancelledError:
            pass  # the leader said so, and knows why
        except SpecDecBenchError as error:
            failure = Failed.of(error)
        except Exception as error:  # noqa: BLE001  (the boundary of the process: the leader reports it)
            traceback.print_exc()
            failure = Failed.of(error)
        measured = self._measurement
        self._connection.send(
            Ended(
                lateness=None if measured is None else measured.lateness.result(),
                failure=failure,
            )
        )

    async def _send_share(self) -> None:
        assignment, loop, task = self._assignment, asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        begins: asyncio.Future[int] = loop.create_future()

        def listen() -> None:
            """Takes the leader's messages in a thread, because preparing blocks the loop."""
            # A RuntimeError says that the loop is closed: this process has sent all, and ends.
            with contextlib.suppress(EOFError, OSError, RuntimeError):
                while True:
                    match self._connection.recv():
                        case Begin(begins_ns=begins_ns):
                            loop.call_soon_threadsafe(begins.set_result, begins_ns)
                        case Interrupt():
                            loop.call_soon_threadsafe(task.cancel)
            os._exit(1)  # the leader is gone, or wants nothing more: leave nothing running

        threading.Thread(target=listen, daemon=True).start()
        engine = cast(SharedEngine, create(assignment.config))
        engine.attach(assignment.attachment)
        with Outbox(self._connection) as outbox:
            self._measurement = Measurement(
                assignment.config,
                assignment.prompts,
                engine,
                _prompter(assignment),
                outbox,
                assignment.first_token_ids,
                has_totals=assignment.has_totals,
            )
            outbox.counts = self._measurement.live
            self._connection.send(Ready())
            share = Share(
                index=assignment.index,
                num_clients=assignment.num_clients,
                begins_ns=await begins,
                claim=self._claim,
            )
            await self._measurement.run_share(share)
        await engine.stop()

    def _claim(self) -> int:
        """Returns the number of the next conversation that no client has taken.

        All clients share the file's offset, which the kernel moves for one at a time.

        Source: POSIX.1-2024, System Interfaces, 2.9.7, Thread Interactions with File Operations.
        """
        return os.lseek(self._claims, 1, os.SEEK_CUR) - 1


def _prompter(assignment: Assignment) -> Prompter:
    if all(len(prompt.turns) == 1 for prompt in assignment.prompts):
        return SingleTurns(assignment.stop_token_ids)
    return chat.create(assignment.config)


def main() -> None:
    """Entry point of the process; its arguments are file descriptors."""
    signals.leave_to_parent()
    plugins.load()
    logging.basicConfig(level=logging.INFO, format="[%(asctime)s][%(name)s][%(levelname)s] %(message)s")
    connection = Connection(int(sys.argv[1]))
    try:
        assignment = connection.recv()
    except (EOFError, OSError):
        return  # the leader is gone before it had anything to do
    assert isinstance(assignment, Assignment)
    adopt(assignment.secrets)
    asyncio.run(Client(connection, assignment, int(sys.argv[2])).serve())


if __name__ == "__main__":
    main()
