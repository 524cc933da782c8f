"""Finds and loads the sources that placeholders need. Fetched files stay in the caches below HF_HOME."""

import hashlib
import importlib.util
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from specdec_bench import hub
from specdec_bench.datasets.rows import read_rows
from specdec_bench.datasets.speed_bench import wording
from specdec_bench.datasets.speed_bench.turns import Encoding, HLEExamples, Table, Wording
from specdec_bench.errors import DatasetError, first_line

EXTRA = "install specdec-bench[speed_bench]"


class Need(Protocol):
    """Something that placeholders are made of."""

    @property
    def name(self) -> str:
        """What it is, and where."""

    def version(self) -> str:
        """Returns its revision; of a file that no revision pins, the sha256 of what was loaded."""

    def load(self) -> Any:
        """Returns it.

        Raises:
            DatasetError: it cannot be had.
        """


@dataclass(frozen=True)
class HubRows:
    """The test splits of a hub dataset's configurations, one after another, as the `datasets` library reads them."""

    repository: str
    revision: str
    columns: tuple[str, ...]
    configurations: tuple[str | None, ...] = (None,)

    @property
    def name(self) -> str:
        """The repository and its configurations."""
        return " ".join([self.repository, *(name for name in self.configurations if name is not None)])

    def version(self) -> str:
        """Returns the commit."""
        return self.revision

    def load(self) -> Table:
        """Returns the rows, without the other columns."""
        if importlib.util.find_spec("datasets") is None:
            raise DatasetError(f"{self.name}: needs the datasets library; {EXTRA}")
        if not hub.is_offline_by_choice() and not hub.is_reachable():
            raise DatasetError(f"{self.name}: the hub cannot be reached from here")
        import datasets

        def rows() -> Iterator[Mapping[str, Any]]:
            for name in self.configurations:
                split = datasets.load_dataset(self.repository, name, split="test", revision=self.revision)
                yield from split.select_columns(list(self.columns))

        try:
            return Table(rows())
        except (OSError, ValueError, RuntimeError) as error:
            raise DatasetError(f"{self.name}: {first_line(error)}") from None


@dataclass(frozen=True)
class HubFiles:
    """JSON files of a hub dataset, one after another."""

    repository: str
    revision: str
    files: tuple[str, ...]
    columns: tuple[str, ...] | None = None
    """The columns to keep; None keeps all."""

    @property
    def name(self) -> str:
        """The repository and the files."""
        return " ".join([self.repository, *self.files])

    def version(self) -> str:
        """Returns the commit."""
        return self.revision

    def load(self) -> Table:
        """Returns the rows."""

        def rows() -> Iterator[Mapping[str, Any]]:
            for file in self.files:
                for row in json_rows(hub.fetch(self.repository, self.revision, file)):
                    yield row if self.columns is None else {name: row[name] for name in self.columns if name in row}

        return Table(rows())


@dataclass(frozen=True)
class WebFile:
    """A JSON file at the address that a row names."""

    url: str

    @property
    def name(self) -> str:
        """The address."""
        return self.url

    def version(self) -> str:
        """Returns the file's sha256."""
        return sha256(hub.fetch_url(self.url))

    def load(self) -> Table:
        """Returns the rows."""
        return Table(json_rows(hub.fetch_url(self.url)))


@dataclass(frozen=True)
class Words:
    """The sentences of NVIDIA's resolver."""

    name = "NVIDIA/Model-Optimizer datasets/speed.py"

    def version(self) -> str:
        """Returns the commit."""
        return wording.REVISION

    def load(self) -> Wording:
        """Returns the sentences."""
        path = hub.fetch_url(wording.URL)
        if sha256(path) != wording.SHA256:
            raise DatasetError(f"{path}: is not {wording.URL}; remove it and try again")
        return wording.parse(path)


@dataclass(frozen=True)
class Tokens:
    """The encoding that lengths are counted in."""

    name = "o200k_base"

    def version(self) -> str:
        """Returns the release of the library, which checks the vocabulary's sha256 itself."""
        import importlib.metadata

        return f"tiktoken {importlib.metadata.version('tiktoken')}"

    def load(self) -> Encoding:
        """Returns the encoding."""
        try:
            import tiktoken
        except ImportError:
            raise DatasetError(f"{self.name}: needs tiktoken; {EXTRA}") from None
        try:
            encoding: Encoding = tiktoken.get_encoding(self.name)
        except (OSError, ValueError) as error:
            reason = first_line(error)
            raise DatasetError(f"tiktoken's {self.name}: cannot be fetched: {reason}") from None
        return encoding


@dataclass(frozen=True)
class HLEHalves:
    """HLE's questions, half of them for examples."""

    rows: HubRows

    @property
    def name(self) -> str:
        """The repository."""
        return self.rows.name

    def version(self) -> str:
        """Returns the commit."""
        return self.rows.version()

    def load(self) -> HLEExamples:
        """Returns both halves, and the draws at their beginning."""
        return HLEExamples(self.rows.load(), Tokens().load())


def json_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yields the rows of JSON Lines or of a JSON array; of one JSON object, that object.

    Raises:
        DatasetError: the file is none of these.
    """
    if path.suffix == ".json":
        try:
            whole = json.loads(path.read_bytes())
        except ValueError:  # JSON Lines by another name, or broken, which its reader says better
            whole = None
        if isinstance(whole, dict):
            yield whole
            return
    for _, row in read_rows(path):
        yield row


def sha256(path: Path) -> str:
    """Returns the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
