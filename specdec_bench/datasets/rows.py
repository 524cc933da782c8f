"""Files of rows, read one row at a time: JSON Lines, a JSON array, parquet. What is wrong is named by file and row."""

import codecs
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from specdec_bench.config.schema import DatasetConfig
from specdec_bench.errors import DatasetError
from specdec_bench.records import Prompt

_CHUNK_BYTES = 1 << 20
_MAX_ITEM_CHARACTERS = 1 << 26
"""Of an array's item; beyond it a broken file would be read whole before anything is said about it."""
_PARQUET_BATCH_ROWS = 64


def required_path(config: DatasetConfig) -> Path:
    """Returns the dataset's file.

    Raises:
        DatasetError: no path was given, or there is no such file.
    """
    if config.path is None:
        raise DatasetError(f"dataset={config.name}: needs its file; pass dataset.path=FILE.jsonl")
    path = Path(config.path).expanduser()
    if not path.is_file():
        raise DatasetError(f"dataset.path={config.path}: no such file; pass the path of a JSON Lines or parquet file")
    return path


def read_prompts(path: Path, convert: Callable[[dict[str, Any], int], Prompt]) -> Iterator[Prompt]:
    """Yields each row, converted. `convert` gets the row and its number.

    Raises:
        DatasetError: the file cannot be read, or `convert` raised ValueError, by file and row.
    """
    for number, row in read_rows(path):
        try:
            prompt = convert(row, number)
        except ValueError as error:
            raise DatasetError(f"{path}:{number}: {error}") from None
        yield prompt


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields numbers from 1 and rows: of a .parquet file, of a JSON array (.json), else of JSON Lines.

    Memory holds one row, or one batch of a parquet file, whatever the file's size. The number is the line in
    JSON Lines (where blank lines are passed over but counted), elsewhere the row.

    Raises:
        DatasetError: the file or a row of it cannot be read.
    """
    if path.suffix == ".parquet":
        return _parquet_rows(path)
    if path.suffix == ".json" and _is_array(path):
        return _array_items(path)
    return _lines(path)


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                raise DatasetError(f"{path}:{number}: not UTF-8 (byte {error.start}); save the file as UTF-8") from None
            except (ValueError, RecursionError) as error:
                raise DatasetError(f"{path}:{number}: not JSON: {error}") from None
            if not isinstance(row, dict):
                raise DatasetError(f"{path}:{number}: a JSON {type(row).__name__}; each line must be an object")
            yield number, row


def _is_array(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(64).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")


def _array_items(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the objects of one JSON array, as ShareGPT's files are, without holding the array."""
    decode_text = codecs.getincrementaldecoder("utf-8-sig")()
    decoder = json.JSONDecoder()
    number, buffer, at_end = 1, "", False
    with path.open("rb") as file:

        def more() -> None:
            nonlocal buffer, at_end
            # As much again as there is, so that an item is tried only a few times however long it is.
            chunk = file.read(max(_CHUNK_BYTES, len(buffer)))
            at_end = not chunk
            try:
                buffer += decode_text.decode(chunk, final=at_end)
            except UnicodeDecodeError:
                raise DatasetError(f"{path}:{number}: not UTF-8 there or soon after; save the file as UTF-8") from None

        def next_character() -> str:
            nonlocal buffer
            while not (buffer := buffer.lstrip()) and not at_end:
                more()
            return buffer[:1]

        next_character()
        buffer = buffer[1:]  # the bracket
        if next_character() == "]":
            return
        while True:
            if (first := next_character()) != "{":
                raise DatasetError(
                    f"{path}:{number}: {first or 'the end'!r} where an object must begin; not a JSON array"
                )
            while True:
                try:
                    row, end = decoder.raw_decode(buffer)
                    break
                except (ValueError, RecursionError) as error:
                    if at_end or len(buffer) > _MAX_ITEM_CHARACTERS:
                        raise DatasetError(f"{path}:{number}: not JSON, or cut off: {error}") from None
                    more()
            buffer = buffer[end:]
            yield number, row
            separator = next_character()
            buffer = buffer[1:]
            if separator == "]":
                return
            if separator != ",":
                raise DatasetError(f"{path}:{number}: {separator or 'the end'!r} after this object; expected , or ]")
            number += 1


def _parquet_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow  # a tenth of a second that only such a file is worth
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_PARQUET_BATCH_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except UnicodeDecodeError:
        raise DatasetError(f"{path}:{number + 1}: not UTF-8 there or soon after; write the file anew") from None
    except (pyarrow.ArrowException, OSError) as error:
        raise DatasetError(f"{path}: cannot be read as parquet: {str(error).splitlines()[0]}") from None


def text_list(row: dict[str, Any], key: str) -> tuple[str, ...]:
    """Returns a row's non-empty list of non-empty strings.

    Raises:
        ValueError: it is something else.
    """
    value = row.get(key)
    if not isinstance(value, list) or not value or not all(isinstance(text, str) and text for text in value):
        raise ValueError(f"{key}={shown(value)}: must be a non-empty list of non-empty strings")
    return tuple(value)


def label(row: dict[str, Any], key: str, default: str) -> str:
    """Returns a row's id or category, the default where there is none.

    Raises:
        ValueError: it is neither a string nor a whole number.
    """
    value = row.get(key)
    if value is None:
        return default
    if type(value) not in (str, int):
        raise ValueError(f"{key}={shown(value)}: must be a string or a whole number")
    return str(value)


def shown(value: object) -> str:
    """Returns a value as a message can quote it: in one line, not at the length of a book."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
