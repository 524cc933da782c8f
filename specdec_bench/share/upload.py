"""Copies an archive's files to storage, and verifies each by reading it back."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path
from typing import BinaryIO, TypeVar

from specdec_bench.archive.names import JOBS_LOCK, LOCK, MANIFEST
from specdec_bench.archive.redact import redact_text
from specdec_bench.archive.sweep_plan import PLAN
from specdec_bench.errors import SharingError, SpecDecBenchError, named
from specdec_bench.records.request import Record
from specdec_bench.share.storage import Storage

S = TypeVar("S")
T = TypeVar("T")

CHUNK_BYTES = 2**20
_LAST = (MANIFEST, PLAN)
"""Sent after all other files, so that a folder with a manifest is complete wherever somebody finds it."""


class Stored(Enum):
    """What storage already has of a file."""

    nothing = "nothing"
    part = "part"
    """Its beginning: an upload was interrupted in a file system that shows unfinished files."""
    same = "same"
    other = "other"
    """Something else under the same name."""


class LocalFile(Record, frozen=True, kw_only=True):
    """A file of the archive, and what storage has of it."""

    name: str
    """Relative to the archive's folder, with `/`."""
    path: str
    num_bytes: int
    sha256: str
    stored: Stored


def find_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Returns the archive's regular files, sorted by name, and what is left out because it is none, such as a link.

    Locks and temporary files of a process that was killed are no part of the archive.
    """
    found, left_out = [], []
    for where, subfolders, names in os.walk(folder):
        paths = [Path(where, name) for name in names if not _is_scratch(name)]
        links = [Path(where, name) for name in subfolders if Path(where, name).is_symlink()]
        found += [path for path in paths if path.is_file() and not path.is_symlink()]
        left_out += links + [path for path in paths if path.is_symlink() or not path.is_file()]
    return sorted(found), sorted(left_out)


def _is_scratch(name: str) -> bool:
    return name in (LOCK, JOBS_LOCK) or (name.startswith(".") and name.endswith((".tmp", ".reserved")))


def compare(folder: Path, paths: Sequence[Path], storage: Storage) -> list[LocalFile]:
    """Compares each file with what storage has under its name. A file of the same size is read back and hashed.

    Raises:
        SharingError: a file cannot be read, here or there.
    """

    def compare_one(path: Path) -> LocalFile:
        name = path.relative_to(folder).as_posix()
        with _telling(name):
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                num_bytes = file.tell()
            stored = _stored(path, num_bytes, sha256, storage, storage.path_of(name))
        return LocalFile(name=name, path=str(path), num_bytes=num_bytes, sha256=sha256, stored=stored)

    return list(_in_parallel(compare_one, paths, storage.num_workers))


def send(files: Sequence[LocalFile], storage: Storage) -> Iterator[LocalFile]:
    """Sends the files and yields each once it was read back unchanged. Manifests are sent last.

    Raises:
        SharingError: a file could not be sent, or came back changed.
    """

    def send_one(file: LocalFile) -> LocalFile:
        target = storage.path_of(file.name)
        with _telling(file.name):
            storage.make_parent(target)
            storage.file_system.put_file(file.path, target)
            with storage.file_system.open(target, "rb") as back:
                sha256 = _sha256(back)
        if sha256 != file.sha256:
            raise SharingError(
                f"{file.name}: what was read back is not what was sent (SHA-256 {sha256[:12]} instead of "
                f"{file.sha256[:12]}); call again with --overwrite"
            )
        return file

    is_last = [file.name.rpartition("/")[2] in _LAST for file in files]
    for last in (False, True):
        batch = [file for file, of_batch in zip(files, is_last, strict=True) if of_batch is last]
        yield from _in_parallel(send_one, batch, storage.num_workers)


def _stored(path: Path, num_bytes: int, sha256: str, storage: Storage, target: str) -> Stored:
    try:
        info = storage.file_system.info(target)
    except FileNotFoundError:
        return Stored.nothing
    num_stored = info.get("size")
    if info.get("type") != "file" or num_stored is None or num_stored > num_bytes:
        return Stored.other
    if num_stored < num_bytes:
        with path.open("rb") as file:
            sha256 = _sha256(file, num_stored)
    with storage.file_system.open(target, "rb") as file:
        if _sha256(file) != sha256:
            return Stored.other
    return Stored.same if num_stored == num_bytes else Stored.part


def _sha256(file: BinaryIO, num_bytes: int | None = None) -> str:
    """Returns the hash of an open file, or of its first bytes."""
    digest, left = hashlib.sha256(), num_bytes
    while chunk := file.read(CHUNK_BYTES if left is None else min(CHUNK_BYTES, left)):
        digest.update(chunk)
        left = None if left is None else left - len(chunk)
    return digest.hexdigest()


def _in_parallel(call: Callable[[S], T], items: Sequence[S], most: int) -> Iterator[T]:
    """Yields the results in order. After a failure nothing further begins."""
    if most == 1:
        yield from map(call, items)
        return
    executor = ThreadPoolExecutor(max_workers=most)
    try:
        yield from executor.map(call, items)
    finally:
        executor.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _telling(name: str) -> Iterator[None]:
    """Says in one line which file could not be read or sent.

    Raises:
        SharingError: for whatever error the block raises.
    """
    try:
        yield
    except SpecDecBenchError:
        raise
    except Exception as error:  # each file system has errors of its own
        raise SharingError(f"{name}: {redact_text(named(error))}; call again to go on") from error
