"""Recognizes a dataset's file by its content, not its name, and identifies files that cannot be read."""

import codecs
import gzip
import os
import re
import stat
import zlib
from pathlib import Path
from typing import IO, Literal, NamedTuple, cast

from specdec_bench.errors import DatasetError

Format = Literal["parquet", "array", "lines"]

_HEAD_BYTES = 4096
_GZIP = b"\x1f\x8b"
_PARQUET = b"PAR1"
_ARCHIVES = {
    _GZIP: "compressed with gzip twice; unpack it once with gzip -d",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; unpack it with zstd -d",
    b"\xfd7zXZ": "compressed with xz; unpack it with xz -d",
    b"BZh": "compressed with bzip2; unpack it with bzip2 -d",
    b"\x04\x22\x4d\x18": "compressed with lz4; unpack it with lz4 -d",
    b"PK\x03\x04": "a zip archive; unpack it and give the file in it",
    b"7z\xbc\xaf": "a 7z archive; unpack it and give the file in it",
    b"ARROW1": "an Arrow file; save it as parquet",
    b"SQLite format 3": "an SQLite database; export its rows as JSON Lines",
    b"version https://git-lfs": "a pointer of Git LFS and not the data; fetch it with git lfs pull",
    codecs.BOM_UTF32_LE: "UTF-32; save it as UTF-8",
    codecs.BOM_UTF32_BE: "UTF-32; save it as UTF-8",
    codecs.BOM_UTF16_LE: "UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)",
    codecs.BOM_UTF16_BE: "UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)",
}
"""First bytes of unsupported formats, and what to do with such a file."""
_SPECIAL = (
    (stat.S_ISFIFO, "a pipe, and a dataset is read more than once; write it into a file first"),
    (stat.S_ISSOCK, "a socket; pass the path of a file"),
    (stat.S_ISCHR, "a device; pass the path of a file"),
    (stat.S_ISBLK, "a device; pass the path of a file"),
)


class Content(NamedTuple):
    """How a file is to be read."""

    format: Format
    is_gzipped: bool

    def open(self, path: Path) -> IO[bytes]:
        """Opens the file for reading, unpacked if it is packed."""
        return cast("IO[bytes]", gzip.open(path)) if self.is_gzipped else path.open("rb")


def require_file(asked: str, *, allows_folder: bool = False) -> Path:
    """Returns the file that `dataset.path` names, without opening it: opening a pipe would block.

    Args:
        asked: as the user gave it.
        allows_folder: whether a folder will do.

    Raises:
        DatasetError: the file cannot be read. The message says what it is.
    """
    try:
        path = Path(asked).expanduser()
    except RuntimeError:
        raise DatasetError(f"dataset.path={asked}: no such user; give the folder in full") from None
    try:
        mode = path.stat().st_mode
        if asked.endswith("/") and stat.S_ISREG(mode):  # which a Path does not keep
            raise NotADirectoryError
    except (FileNotFoundError, NotADirectoryError, ValueError):
        if path.is_symlink():
            raise DatasetError(f"dataset.path={asked}: a link to {path.readlink()}, which is not there") from None
        raise DatasetError(f"dataset.path={asked}: no such file; pass the path of a JSON or parquet file") from None
    except OSError as error:
        raise DatasetError(f"dataset.path={asked}: cannot be read: {error.strerror}") from None
    if stat.S_ISDIR(mode):
        if not allows_folder:
            raise DatasetError(f"dataset.path={asked}: a folder; pass the path of the file in it")
    else:
        for is_special, what in _SPECIAL:
            if is_special(mode):
                raise DatasetError(f"dataset.path={asked}: {what}")
    if not os.access(path, os.R_OK):
        raise DatasetError(f"dataset.path={asked}: cannot be read: Permission denied; check its permissions")
    return path


def recognize(path: Path) -> Content:
    """Returns what the file is, from its first bytes.

    Raises:
        DatasetError: the format is not supported.
        OSError: the file cannot be read at all.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head.startswith(_PARQUET) or (path.suffix == ".parquet" and not head.startswith(_GZIP)):
        return Content("parquet", is_gzipped=False)
    is_gzipped = head.startswith(_GZIP)
    if is_gzipped:
        with gzip.open(path) as unpacked:
            head = unpacked.read(_HEAD_BYTES)
        if head.startswith(_PARQUET):
            raise DatasetError(f"{path}: parquet compressed with gzip; unpack it with gzip -d")
    for magic, what in _ARCHIVES.items():
        if head.startswith(magic):
            raise DatasetError(f"{path}: {what}")
    if b"\0" in head:
        raise DatasetError(f"{path}: holds NUL bytes, so it is not text; save it as JSON Lines in UTF-8, or as parquet")
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if text.startswith(b"["):
        return Content("array", is_gzipped)
    # A number or a string is JSON; the reader of lines says that it is not an object.
    if text and text[:1] not in b'{"-0123456789' and not text.startswith((b"null", b"true", b"false")):
        line, number = text.splitlines()[0].decode("utf-8", "replace"), 1 + head[: -len(text)].count(b"\n")
        what = "CSV" if line.count(",") else "TSV" if line.count("\t") else "something else"
        raise DatasetError(
            f"{path}:{number}: not JSON, but {what}, which begins with {line[:60]!r}; give JSON Lines, a JSON array or "
            "parquet"
        )
    return Content("lines", is_gzipped)


def spread_object(text: str) -> str:
    """Describes a file that is one JSON object over several lines, and says what to do with it."""
    begins = re.match(r'\s*\{\s*"(\w{1,60})"\s*:\s*\[', text)
    field = f" with its rows in {begins[1]!r}" if begins else ""
    how = f"jq -c '.{begins[1]}[]'" if begins else "jq -c ."
    return f"an object over several lines{field}, not JSON Lines; write a row a line ({how} FILE)"


READ_ERRORS = (OSError, EOFError, zlib.error)
"""Errors of reading from a broken disk or gzip file."""


def read_error(path: Path, error: BaseException) -> DatasetError:
    """Returns the DatasetError for one of READ_ERRORS, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return DatasetError(f"{path}: cannot be read: {error.strerror}")
    return DatasetError(f"{path}: gzip, but broken or cut off: {error}; fetch it anew")
