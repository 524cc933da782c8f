"""Appends finished requests to requests.jsonl without holding up the event loop that measures."""

import contextlib
import errno
import logging
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final

from specdec_bench.archive import codec, files
from specdec_bench.errors import ArchiveError
from specdec_bench.records.request import RequestRecord

logger = logging.getLogger(__name__)


class RequestWriter:
    """A thread that writes each record as soon as it gets it.

    What has been written survives the process, so a run that dies keeps its finished requests. After the first
    error nothing more is written. A line that did not fit is removed, so that the file ends in a whole line.
    """

    def __init__(self, path: str | Path, on_error: Callable[[], object] = lambda: None) -> None:
        """Makes the file and starts the thread.

        Args:
            path: the file to make.
            on_error: called once, in the thread, when records begin to be lost.

        Raises:
            ArchiveError: the file is there already, or cannot be made.
        """
        self._path: Final = Path(path)
        self._queue: Final[queue.SimpleQueue[RequestRecord | bytes | None]] = queue.SimpleQueue()
        self._on_error: Final = on_error
        self._error: Exception | None = None
        self._num_bytes = 0
        """Size of the whole lines on disk."""
        self._closed = False
        with files.naming(self._path):
            try:
                self._descriptor: Final = files.create_exclusively(self._path)
            except FileExistsError as error:
                raise ArchiveError(f"{self._path}: exists already; requests of two runs are never mixed") from error
        # A daemon, so that a process can end without close().
        self._thread: Final = threading.Thread(target=self._run, name="request-writer", daemon=True)
        self._thread.start()

    def append(self, record: RequestRecord) -> None:
        """Hands a record to the thread; costs an enqueue.

        Raises:
            ArchiveError: an earlier record could not be written, or the writer is closed.
        """
        self._put(record, f"request {record.request_id}")

    def append_lines(self, lines: bytes) -> None:
        """Hands over whole lines of records that another process has encoded. Any thread may call this.

        Raises:
            ArchiveError: as `append` does.
        """
        self._put(lines, "requests of another process")

    def _put(self, item: RequestRecord | bytes, name: str) -> None:
        self._raise_error()
        if self._closed:
            raise ArchiveError(f"{self._path}: {name} came after the file was closed")
        self._queue.put(item)

    def close(self) -> None:
        """Waits until all records are on disk. Further calls only repeat the error, if there was one.

        Raises:
            ArchiveError: a record could not be written (the disk is full, say).
        """
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            self._thread.join()
            try:
                try:
                    if self._error is None:
                        os.fsync(self._descriptor)
                        files.sync_folder(self._path.parent)
                finally:
                    os.close(self._descriptor)
            except OSError as error:
                self._error = self._error or error
        self._raise_error()

    def __enter__(self) -> "RequestWriter":
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Closes the writer. If the block failed, its error is raised and an error of writing is logged."""
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
        """Writes until told to stop; after an error, only empties the queue."""
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
                self._write(
                    b"".join(
                        [
                            item if isinstance(item, bytes) else codec.encode_line(item)
                            for item in batch
                            if item is not None
                        ]
                    )
                )
            except Exception as error:  # noqa: BLE001 - kept for the caller, in whose thread it must surface
                self._error = error
                self._on_error()

    def _write(self, lines: bytes) -> None:
        """Writes whole lines.

        Raises:
            OSError: they do not all fit, or the file was removed meanwhile.
        """
        try:
            files.write_all(self._descriptor, lines)
            if os.fstat(self._descriptor).st_nlink == 0 and lines:
                raise FileNotFoundError(errno.ENOENT, "the file was removed while it was written")
        except OSError:
            with contextlib.suppress(OSError):
                num_written = os.fstat(self._descriptor).st_size - self._num_bytes
                os.ftruncate(self._descriptor, self._num_bytes + lines.rfind(b"\n", 0, num_written) + 1)
            raise
        self._num_bytes += len(lines)
