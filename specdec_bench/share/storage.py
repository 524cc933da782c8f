"""Opens the place of an upload: a folder in any file system that fsspec knows."""

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specdec_bench.archive.redact import learn, redact_text
from specdec_bench.errors import ConfigError, first_line

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>.+)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Storage:
    """A folder of a file system."""

    file_system: Any
    """fsspec's AbstractFileSystem."""
    root: str
    """The folder's path in it."""

    @property
    def num_workers(self) -> int:
        """How many files are sent at a time. fsspec lets several threads share only its asynchronous file systems."""
        return 8 if self.file_system.async_impl else 1

    def path_of(self, name: str) -> str:
        """Returns the path of a file of the archive."""
        return f"{self.root.rstrip('/')}/{name}"

    def make_parent(self, path: str) -> None:
        """Makes the folder of a file where there are folders.

        Asynchronous file systems are object stores, which have none; making one could make a bucket.
        """
        if not self.file_system.async_impl:
            self.file_system.makedirs(path.rpartition("/")[0], exist_ok=True)


def open_storage(url: str) -> Storage:
    """Returns the folder that a URL names. Nothing is sent to it yet.

    Raises:
        ConfigError: it is no URL, its scheme is unknown, or the package for it is not installed.
    """
    if "::" in url:
        raise ConfigError(
            f"URL={redact_text(url)}: chains file systems, of which one may be a cache; give the storage's own URL"
        )
    found = _URL.fullmatch(url)
    if found is None:
        raise ConfigError(f"URL={url}: is no URL; give one such as s3://BUCKET/FOLDER or file:///FOLDER")
    base, sign, query = url.partition("?")
    if sign:
        learn({"secret": [query, *(value.partition("=")[2] for value in query.split("&"))]})
        raise ConfigError(
            f"URL={redact_text(base)}?...: has a query, which no folder has; give credentials in the environment"
        )
    if importlib.util.find_spec("fsspec") is None:
        raise ConfigError("upload: needs fsspec; run: pip install 'specdec-bench[upload]', or [s3] for s3://")
    import fsspec

    scheme = found["scheme"]
    try:
        file_system, root = fsspec.core.url_to_fs(url)
    except ImportError as error:
        extra = "; run: pip install 'specdec-bench[s3]'" if scheme in ("s3", "s3a") else ""
        raise ConfigError(f"URL={redact_text(url)}: {first_line(error)}{extra}") from None
    except Exception as error:  # noqa: BLE001  (each file system has errors of its own)
        raise ConfigError(f"URL={redact_text(url)}: {redact_text(first_line(error))}; correct it") from None
    return Storage(file_system=file_system, root=root)


def refuse_inside(storage: Storage, folder: Path) -> None:
    """Refuses to store an archive within itself.

    Raises:
        ConfigError: the storage is a folder of this machine at or below the archive's.
    """
    from fsspec.implementations.local import LocalFileSystem

    if isinstance(storage.file_system, LocalFileSystem):
        root = Path(storage.root).resolve()
        if root.is_relative_to(folder.resolve()):
            raise ConfigError(
                f"URL=file://{root}: lies within {folder}, which is to be uploaded; choose another folder"
            )
