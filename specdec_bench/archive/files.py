"""Writes files that are either whole or absent, even after a crash or on a full disk. Errors name the path."""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

from specdec_bench.errors import ArchiveError


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Adds the path that is being written to OS errors raised within the block; few of them name it.

    Raises:
        ArchiveError: naming the path. A broken pipe, which is not a fault of the disk, is raised unchanged.
    """
    try:
        yield
    except ConnectionError:
        raise
    except OSError as error:
        raise ArchiveError(
            f"{path}: cannot be written: {error.strerror or error}; free space or check the folder"
        ) from error


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
    """Returns a descriptor to write a new file. If several processes try, only one gets it.

    Raises:
        FileExistsError: the file is there.
        OSError: it cannot be made.
    """
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)


def reserve(path: Path, num_bytes: int) -> None:
    """Reserves room, so that a later `write_atomically` to this path succeeds even on a full disk.

    Raises:
        ArchiveError: there is no room now. What was reserved before stays reserved.
    """
    with naming(path):
        descriptor = os.open(_reserved(path), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            write_all(descriptor, bytes(num_bytes))  # extending the file without writing would reserve no room
        finally:
            os.close(descriptor)


def release(path: Path) -> None:
    """Releases the room that was reserved for the path but not used."""
    with contextlib.suppress(OSError):
        _reserved(path).unlink()


def write_atomically(path: Path, chunks: Iterable[bytes], *, uses_reserve: bool = False) -> None:
    """Replaces the file's content. After a crash the file has either the old content or the new, never a part.

    Args:
        path: the file.
        chunks: its new content.
        uses_reserve: whether to write into the room reserved for it, if there is any.

    Raises:
        ArchiveError: it cannot be written; the old content is then untouched.
    """
    with naming(path):
        temporary, descriptor = _open_temporary(path, uses_reserve)
        try:
            try:
                for chunk in chunks:
                    write_all(descriptor, chunk)
                os.ftruncate(descriptor, os.lseek(descriptor, 0, os.SEEK_CUR))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(path.parent)


def _open_temporary(path: Path, uses_reserve: bool) -> tuple[Path, int]:
    """Opens the temporary file that will replace the path."""
    if uses_reserve:
        with contextlib.suppress(FileNotFoundError):
            return _reserved(path), os.open(_reserved(path), os.O_WRONLY | os.O_CLOEXEC)
    # In the same folder, since a rename is atomic only within one file system. Not tempfile.mkstemp, whose files
    # only their owner may read.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    return temporary, create_exclusively(temporary)


def _reserved(path: Path) -> Path:
    return path.with_name(f".{path.name}.reserved")


def sync_folder(folder: Path) -> None:
    """Makes the folder's entries (new and renamed files) survive a power failure.

    Raises:
        OSError: the disk failed. File systems that cannot sync folders are ignored.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
