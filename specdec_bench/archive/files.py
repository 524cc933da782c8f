"""Files that are either whole or absent, also after a crash."""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterable
from pathlib import Path


def is_file(path: Path) -> bool:
    """Says whether there is a file; False also where the system refuses to look."""
    try:
        return path.is_file()
    except OSError:
        return False


def write_all(descriptor: int, data: bytes) -> None:
    """Writes all of the data, however many calls the system takes for it.

    Raises:
        OSError: as the system says; part of the data may then be written.
    """
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def create_exclusively(path: Path) -> int:
    """Returns a descriptor to write a new file; of any number of processes that try, one gets it.

    Raises:
        FileExistsError: the file is there.
        OSError: it cannot be made.
    """
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)


def write_atomically(path: Path, chunks: Iterable[bytes]) -> None:
    """Replaces the file's content: a reader, or a crash, meets the old content or the new, never a part.

    Raises:
        OSError: it cannot be written; the old content is then untouched.
    """
    # In the same folder, since a rename is atomic only within one file system. Not tempfile.mkstemp, whose files
    # none but their owner may read.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    descriptor = create_exclusively(temporary)
    try:
        try:
            for chunk in chunks:
                write_all(descriptor, chunk)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes the folder's entries (new and renamed files) survive a power failure.

    Raises:
        OSError: the disk failed. A file system that cannot sync folders is let pass.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
