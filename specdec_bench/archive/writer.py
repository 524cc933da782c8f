"""Appends finished requests to requests.jsonl without holding up the event loop that measures."""

import logging
import os
import queue
import threading
from pathlib import Path
from types import TracebackType
from typing import Final

from specdec_bench.archive import codec, files
from specdec_bench.errors import ArchiveError
from specdec_bench.records import RequestRecord

logger = logging.getLogger(__name__)


class RequestWriter:
    """A thread that writes each record as soon as it gets it.

    What has been written survives the process, so a run that dies keeps its finished requests. After the first
    error nothing more is written: the file then ends in at most one torn line, never holds one in its middle.
    """

    def __init__(self, path: str | Path) -> None:
        """Makes the file and starts the thread.

        Raises:
            ArchiveError: the file is there already, or cannot be made.
        """
        self._path: Final = Path(path)
        self._queue: Final[queue.SimpleQueue[RequestRecord | None]] = queue.SimpleQueue()
        self._error: Exception | None = None
        self._closed = False
        try:
            self._descriptor: Final = files.create_exclusively(self._path)
        except FileExistsError as error:
            raise ArchiveError(f"{self._path}: exists already; requests of two runs are never mixed") from error
        except OSError as error:
            raise ArchiveError(f"{self._path}: cannot be written: {error.strerror}; check the folder") from error
        # A daemon, so that a process that ends without close() ends at all.
        self._thread: Final = threading.Thread(target=self._run, name="request-writer", daemon=True)
        self._thread.start()

    def append(self, record: RequestRecord) -> None:
        """Hands a record to the thread; costs an enqueue.

        Raises:
            ArchiveError: an earlier record could not be written, or the writer is closed.
        """
        self._raise_error()
        if self._closed:
            raise ArchiveError(f"{self._path}: request {record.request_id} came after the file was closed")
        self._queue.put(record)

    def close(self) -> None:
        """Waits until all is on disk. Further calls only repeat the error, if there was one.

        Raises:
            ArchiveError: a record could not be written (the disk is full, say).
        """
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            self._thread.join()
            try:
                if self._error is None:
                    os.fsync(self._descriptor)
                    files.sync_folder(self._path.parent)
            except OSError as error:
                self._error = error
            finally:
                os.close(self._descriptor)
        self._raise_error()

    def __enter__(self) -> "RequestWriter":
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Closes; where the block failed by itself, that error goes on and one of writing is logged beside it."""
        try:
            self.close()
        except ArchiveError as write_error:
            if error is None:
                raise
            if not isinstance(error, ArchiveError):
                logger.error("%s", write_error)

    def _raise_error(self) -> None:
        if self._error is not None:
            reason = self._error.strerror if isinstance(self._error, OSError) else self._error
            raise ArchiveError(
                f"{self._path}: requests are lost, writing failed: {reason}; free space and run again"
            ) from self._error

    def _run(self) -> None:
        """Writes until told to stop; after an error it only empties the queue."""
        open_ended = True
        while open_ended:
            batch = [self._queue.get()]
            # Whatever else is waiting goes out in the same write, so that a burst costs one call.
            while batch[-1] is not None and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            open_ended = batch[-1] is not None
            if self._error is not None:
                continue
            try:
                lines = [codec.encode_line(record) for record in batch if record is not None]
                files.write_all(self._descriptor, b"".join(lines))
            except Exception as error:  # noqa: BLE001 - kept for the caller, in whose thread it must surface
                self._error = error
