"""Holds log records while the experiment is composed, and writes them when the run's log is open."""

import contextlib
import copy
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

_FORMAT = "[%(asctime)s][%(name)s][%(levelname)s] %(message)s"


class _Holder(logging.Handler):
    """Keeps records as text, so that none of their arguments stays alive."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps the record."""
        held = copy.copy(record)
        held.msg, held.args, held.exc_info = record.getMessage(), None, None
        self.records.append(held)


@contextlib.contextmanager
def hold() -> Iterator[list[logging.LogRecord]]:
    """Collects records logged within the block, from INFO on, in the yielded list; no other handler gets them."""
    root, holder = logging.getLogger(), _Holder()
    handlers, level = root.handlers, root.level
    root.handlers = [holder]
    root.setLevel(logging.INFO)
    try:
        yield holder.records
    finally:
        root.handlers = handlers
        root.setLevel(level)


def write(records: Iterable[logging.LogRecord]) -> None:
    """Logs held records, with the times at which they were made."""
    for record in records:
        logging.getLogger(record.name).handle(record)


@contextlib.contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Appends what is logged within the block to a file, unless there is a log already, such as Hydra's."""
    root = logging.getLogger()
    if root.handlers:
        yield
        return
    handler, level = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace", delay=True), root.level
    handler.setFormatter(logging.Formatter(_FORMAT))
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()
