"""Any dataset of the Hugging Face hub, through the `datasets` library; or local files with other columns' names.

The configuration names the columns: one of prompt (a string), turns (a list of strings) and conversations (a list of
{from, value} or {role, content}); those of id, category and system prompt where there are any.
"""

import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from specdec_bench import hub
from specdec_bench.config.schema.dataset import DatasetConfig, HFDataset
from specdec_bench.datasets import content
from specdec_bench.datasets.jsonl import to_prompt
from specdec_bench.datasets.rows import read_rows
from specdec_bench.datasets.sharegpt import is_used, read_conversation
from specdec_bench.errors import DatasetError, first_line
from specdec_bench.records.request import Prompt
from specdec_bench.records.unused import Unused

_SUFFIXES = (".parquet", ".jsonl", ".json", ".jsonl.gz", ".json.gz")
_DOCUMENTATION = ("", ".md")
"""Suffixes of files that accompany a dataset but are not part of it: README.md, LICENSE."""


def load(config: DatasetConfig, unused: Unused) -> Iterator[tuple[int, Prompt]]:
    """Yields row numbers and prompts of `config.id` on the hub, or of the file or folder `config.path`.

    Raises:
        DatasetError: naming the dataset and the row.
    """
    assert isinstance(config, HFDataset)
    if (config.id is None) == (config.path is None):
        raise DatasetError("dataset=hf: give one of dataset.id=OWNER/NAME and dataset.path=FILE_OR_FOLDER")
    columns = {
        "prompt": config.prompt_column,
        "turns": config.turns_column,
        "conversations": config.conversations_column,
        "prompt_id": config.id_column,
        "category": config.category_column,
        "system": config.system_column,
    }
    if not any(list(columns.values())[:3]):
        raise DatasetError(
            "dataset=hf: pass dataset.prompt_column=COLUMN (or turns_column, or conversations_column) to say where the "
            "prompts are"
        )
    for where, number, row in _local_rows(config.path, unused) if config.path is not None else _hub_rows(config):
        try:
            prompt = _prompt(row, number, {field: name for field, name in columns.items() if name is not None}, unused)
        except ValueError as error:
            raise DatasetError(f"{where}: {error}") from None
        if prompt is not None:
            yield number, prompt


def _prompt(row: dict[str, Any], number: int, columns: dict[str, str], unused: Unused) -> Prompt | None:
    """Returns the row's prompt. A row that is not used is noted, and gives None."""
    missing = [column for column in columns.values() if column not in row]
    if missing:
        raise ValueError(f"has no column {', '.join(missing)}; its columns are {', '.join(row)}")
    fields = {field: row[column] for field, column in columns.items()}
    if "conversations" in fields:
        conversation = read_conversation({"conversations": fields.pop("conversations"), "system": fields.get("system")})
        if not is_used(conversation, number, unused):
            return None
        fields |= {"turns": list(conversation.turns), "system": conversation.system}
    elif fields.get("prompt", "") in (None, "") and "prompt" in fields:
        unused.add_row(f"with an empty {columns['prompt']!r}", number)
        return None
    unused.add_fields(row, columns.values(), number)
    return to_prompt(fields, number)


def local_files(path: str) -> list[Path]:
    """Returns the file, or the folder's files in the order of their names.

    Raises:
        DatasetError: there are none.
    """
    place = content.require_file(path, allows_folder=True)
    if not place.is_dir():
        return [place]
    if files := [file for file in _visible(place) if file.name.endswith(_SUFFIXES) and file.is_file()]:
        return files
    raise DatasetError(f"dataset.path={path}: a folder without {', '.join(_SUFFIXES)} files")


def _visible(folder: Path) -> list[Path]:
    """Returns the files below a folder in the order of their names, without hidden ones such as the hub's cache."""
    return sorted(
        path
        for path in folder.rglob("*")
        if not path.is_dir() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _local_rows(path: str, unused: Unused) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Yields file with number, number over all files, and row."""
    files, folder, before = local_files(path), Path(path).expanduser(), 0
    for other in _visible(folder) if folder.is_dir() else ():
        if other not in files and other.suffix not in _DOCUMENTATION:
            unused.add_file(str(other.relative_to(folder)))
    for file in files:
        number = 0
        for number, row in read_rows(file):
            yield f"{file}:{number}", before + number, row
        before += number


def _hub_rows(config: HFDataset) -> Iterable[tuple[str, int, dict[str, Any]]]:
    assert config.id is not None
    where = f"dataset.id={config.id}"
    if importlib.util.find_spec("datasets") is None:
        raise DatasetError(f"{where}: needs the datasets library; install specdec-bench[hf]")
    # Asked before the import, which takes a second. With HF_HUB_OFFLINE the library uses what its cache holds.
    if not hub.is_offline_by_choice() and not hub.is_reachable():
        raise DatasetError(
            f"{where}: the hub cannot be reached from here; pass dataset.path=FILE_OR_FOLDER with the dataset's files, "
            "or set HF_HUB_OFFLINE=1 if it is in the cache"
        )
    import datasets

    try:
        rows = datasets.load_dataset(config.id, config.subset, split=config.split, revision=config.revision)
    except (OSError, ValueError, RuntimeError) as error:
        raise DatasetError(f"{where}: {first_line(error)}") from None
    return ((f"{where}:{number}", number, row) for number, row in enumerate(rows, start=1))
