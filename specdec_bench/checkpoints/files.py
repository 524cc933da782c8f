"""Reads a checkpoint's files. A file that exists and cannot be read is an error, never treated as missing."""

import json
import os
from pathlib import Path
from typing import Any

from specdec_bench.errors import ConfigError


def is_there(path: Path) -> bool:
    """Whether the folder has an entry of this name, even a broken link."""
    return os.path.lexists(path)


def folder_stamp(folder: Path) -> frozenset[tuple[str, int, int]]:
    """Returns name, time of change and size of each entry of a folder, which tell whether to read it again.

    Raises:
        ConfigError: the folder cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            return frozenset((entry.name, *_stamp(entry)) for entry in entries)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be read ({error.strerror}); give a checkpoint's folder") from None


def _stamp(entry: "os.DirEntry[str]") -> tuple[int, int]:
    try:
        stat = entry.stat()
    except OSError:  # a broken link
        return (0, 0)
    return (stat.st_mtime_ns, stat.st_size)


def read_text(path: Path) -> str | None:
    """Returns a text file of a checkpoint; None where there is none.

    Raises:
        ConfigError: it exists but cannot be read, or is not UTF-8.
    """
    if not is_there(path):
        return None
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 (byte {error.start}); the checkpoint is damaged") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); complete or repair the checkpoint") from None


def find_json(path: Path) -> dict[str, Any] | None:
    """Returns a JSON file of a checkpoint; None where there is none.

    Raises:
        ConfigError: it exists but cannot be read, or holds no JSON object.
    """
    text = read_text(path)
    if text is None:
        return None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read as JSON ({error}); the checkpoint is damaged") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: holds no JSON object; the checkpoint is damaged")
    return content


def names_in(folder: Path, suffix: str) -> list[str]:
    """Returns the names of a folder's entries with a suffix, sorted; none where there is no such folder.

    Raises:
        ConfigError: the folder cannot be listed.
    """
    if not is_there(folder):
        return []
    try:
        return sorted(path.name for path in folder.iterdir() if path.name.endswith(suffix))
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be read ({error.strerror}); complete or repair the checkpoint") from None
