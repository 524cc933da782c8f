"""Identifies a checkpoint without reading hundreds of gigabytes.

Files of at most 64 MiB, and text of any size, are hashed whole. A larger file's hash covers its size, the header of a
safetensors file (names, shapes and types of all tensors), and 64 windows of 4 KiB, evenly spaced from the first byte
of its data to the last. That detects other weights, whether retrained, quantized or converted, and a download that
stopped. It misses a change between the windows, such as one flipped bit. Such a hash is named `sampled_sha256`, never
`sha256`.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from specdec_bench.errors import ArchiveInputError
from specdec_bench.records.canonical import canonical_json
from specdec_bench.records.checkpoint import FileIdentity, Fingerprint

WHOLE_UP_TO_BYTES = 64 * 2**20


NUM_WINDOWS = 64


WINDOW_BYTES = 4096


_TEXT_SUFFIXES = frozenset({".json", ".jinja", ".model", ".py", ".tiktoken", ".txt", ".yaml", ".yml"})
"""Configuration, tokenizers, chat templates, a checkpoint's own code: all of it counts, whatever the size."""


_IGNORED_SUFFIXES = frozenset({".lock", ".markdown", ".md", ".pyc", ".rst"})


_MAX_HEADER_BYTES = 100_000_000
"""The safetensors library's own limit."""


_SNAPSHOT = re.compile(r"[0-9a-f]{40}")


def checkpoint_fingerprint(path: str, folder: str | Path, revision: str | None = None) -> Fingerprint:
    """Returns the identity of a checkpoint, or of a separate tokenizer.

    It depends on names below the folder and on contents, neither on where the folder is nor on file times.
    Hidden files, READMEs, documentation, lock files and byte code do not count.

    Args:
        path: what the user asked for: a folder, a hub id, `bundled:NAME`, `fetched:NAME` or `trained:NAME`.
            Archived as it is.
        folder: where that was found; for a hub id the snapshot folder that huggingface_hub resolved.
        revision: the revision asked for, if any.

    Raises:
        ArchiveError: there is no such folder, it holds nothing, or a file of it cannot be read.
    """
    root = Path(folder)
    try:
        entries = {file.relative_to(root).as_posix(): _identify(file) for file in _files(root)}
    except OSError as error:
        raise ArchiveInputError(
            f"{error.filename or root}: cannot be read for the checkpoint's fingerprint: {error.strerror};"
            " complete the download or repair the folder"
        ) from error
    if not entries:
        raise ArchiveInputError(f"{root}: holds no checkpoint to take a fingerprint of; check model.path={path}")
    entries = dict(sorted(entries.items()))
    resolved = root.absolute()
    is_snapshot = resolved.parent.name == "snapshots" and _SNAPSHOT.fullmatch(resolved.name)
    return Fingerprint(
        path=path,
        revision=revision,
        commit=resolved.name if is_snapshot else None,
        fingerprint=hashlib.sha256(canonical_json(entries)).hexdigest(),
        files=entries,
    )


def _files(root: Path) -> Iterator[Path]:
    """Yields the files that count, links followed.

    Raises:
        OSError: a folder cannot be listed.
    """
    visited = set()
    for folder, subfolders, names in os.walk(root, onerror=_raise, followlinks=True):
        real = os.path.realpath(folder)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith(".") and name != "__pycache__")
        if real in visited:  # a link back up
            subfolders.clear()
            continue
        visited.add(real)
        yield from (Path(folder, name) for name in names if _counts(name))


def _counts(name: str) -> bool:
    is_documentation = name.upper().startswith("README") or Path(name).suffix.lower() in _IGNORED_SUFFIXES
    return not name.startswith(".") and not is_documentation


def _identify(path: Path) -> FileIdentity:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size <= WHOLE_UP_TO_BYTES or path.suffix.lower() in _TEXT_SUFFIXES:
            return FileIdentity(size=size, sha256=hashlib.file_digest(file, "sha256").hexdigest())
        return FileIdentity(size=size, sampled_sha256=_sample(file, size, path.suffix.lower() == ".safetensors"))


def _sample(file: BinaryIO, size: int, is_safetensors: bool) -> str:
    """Returns the sha256 over header and windows of a large file; see the module's docstring."""
    digest = hashlib.sha256()
    start = 0
    if is_safetensors:
        length = file.read(8)
        header_bytes = int.from_bytes(length, "little")
        # Anything else is no safetensors file, whatever its name; the engine will say so.
        if header_bytes <= min(_MAX_HEADER_BYTES, size - 8 - WINDOW_BYTES):
            digest.update(length)
            digest.update(file.read(header_bytes))
            start = 8 + header_bytes
    span = size - WINDOW_BYTES - start
    for index in range(NUM_WINDOWS):
        file.seek(start + span * index // (NUM_WINDOWS - 1))
        digest.update(file.read(WINDOW_BYTES))
    return digest.hexdigest()


def _raise(error: OSError) -> None:
    raise error
