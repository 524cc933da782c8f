"""Files of rows, read one row at a time: JSON Lines, a JSON array, parquet. Errors name file and row."""

import codecs
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from specdec_bench.config.schema.dataset import DatasetConfig
from specdec_bench.datasets import content
from specdec_bench.errors import DatasetError, first_line
from specdec_bench.records.request import Prompt

_CHUNK_BYTES = 1 << 20
_MAX_ITEM_CHARACTERS = 1 << 26
"""Of a line or an array's item. Without a limit, a broken file would be read whole before any error."""
_PARQUET_BATCH_ROWS = 64

HALF_A_PAIR = "with half a surrogate pair, which no tokenizer takes"
"""Why a row is not used."""


def required_path(config: DatasetConfig) -> Path:
    """Returns the dataset's file.

    Raises:
        DatasetError: no path was given, or the file cannot be read.
    """
    if config.path is None:
        raise DatasetError(f"dataset={config.name}: needs its file; pass dataset.path=FILE.jsonl")
    return content.require_file(config.path)


def read_prompts(path: Path, convert: Callable[[dict[str, Any], int], Prompt]) -> Iterator[tuple[int, Prompt]]:
    """Yields each row's number and its prompt. `convert` gets the row and its number.

    Raises:
        DatasetError: the file cannot be read, or `convert` raised ValueError, by file and row.
    """
    for number, row in read_rows(path):
        try:
            prompt = convert(row, number)
        except ValueError as error:
            raise DatasetError(f"{path}:{number}: {error}") from None
        yield number, prompt


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields numbers from 1 and rows: of a parquet file, of a JSON array, else of JSON Lines, the last two gzip or not.

    Memory holds one row, or one batch of a parquet file, whatever the file's size. The number is the line in
    JSON Lines (where blank lines are skipped but counted), elsewhere the row.

    Raises:
        DatasetError: the file or a row of it cannot be read.
    """
    try:
        found = content.recognize(path)
        match found.format:
            case "parquet":
                yield from _parquet_rows(path)
            case "array":
                yield from _array_items(path, found)
            case "lines":
                yield from _lines(path, found)
    except content.READ_ERRORS as error:
        raise content.read_error(path, error) from None


def _lines(path: Path, found: content.Content) -> Iterator[tuple[int, dict[str, Any]]]:
    with found.open(path) as file:
        number, is_first = 0, True
        while line := file.readline(_MAX_ITEM_CHARACTERS):
            number += 1
            if len(line) == _MAX_ITEM_CHARACTERS:
                raise DatasetError(f"{path}:{number}: a line of {len(line):,} bytes or more; no row is that long")
            if not line.strip():
                continue
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                row = _decoder.decode(text)
            except UnicodeDecodeError as error:
                raise DatasetError(f"{path}:{number}: not UTF-8 (byte {error.start}); save the file as UTF-8") from None
            except (ValueError, RecursionError) as error:
                goes_on = isinstance(error, json.JSONDecodeError) and error.pos >= len(text.rstrip())
                if is_first and goes_on and (rest := file.read(_CHUNK_BYTES)).strip():
                    what = content.spread_object(text + rest.decode("utf-8", "replace"))
                    raise DatasetError(f"{path}:{number}: not JSON: {what}") from None
                raise DatasetError(f"{path}:{number}: not JSON: {error}") from None
            if not isinstance(row, dict):
                raise DatasetError(f"{path}:{number}: a JSON {type(row).__name__}; each line must be an object")
            is_first = False
            yield number, row


class _RepeatedKeyError(ValueError):
    """An object names a key twice, so one of the two values would be lost."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in row if keys.count(key) > 1)
        raise _RepeatedKeyError(f"the key {shown(repeated)} appears twice in one object")
    return row


_decoder = json.JSONDecoder(object_pairs_hook=_object)


def _array_items(path: Path, found: content.Content) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the objects of one JSON array, as ShareGPT's files are, without holding the array."""
    decode_text = codecs.getincrementaldecoder("utf-8-sig")()
    number, buffer, position, at_end = 1, "", 0, False
    with found.open(path) as file:

        def more() -> None:
            nonlocal buffer, position, at_end
            # At least doubles the buffer, so that even a long item is tried only a few times.
            chunk = file.read(max(_CHUNK_BYTES, len(buffer) - position))
            at_end = not chunk
            try:
                buffer = buffer[position:] + decode_text.decode(chunk, final=at_end)
            except UnicodeDecodeError:
                raise DatasetError(f"{path}:{number}: not UTF-8 there or soon after; save the file as UTF-8") from None
            position = 0

        def next_character() -> str:
            nonlocal position
            while True:
                while buffer[position : position + 1].isspace():
                    position += 1
                if position < len(buffer) or at_end:
                    return buffer[position : position + 1]
                more()

        next_character()
        position += 1  # the bracket
        if next_character() == "]":
            position += 1
        else:
            while True:
                if (first := next_character()) != "{":
                    raise DatasetError(
                        f"{path}:{number}: {first or 'the end'!r} where an object must begin; not a JSON array"
                    )
                while True:
                    try:
                        row, position = _decoder.raw_decode(buffer, position)
                        break
                    except _RepeatedKeyError as error:
                        raise DatasetError(f"{path}:{number}: {error}") from None
                    except (ValueError, RecursionError) as error:
                        if at_end or len(buffer) - position > _MAX_ITEM_CHARACTERS:
                            raise DatasetError(f"{path}:{number}: not JSON, or cut off: {error}") from None
                        more()
                yield number, row
                separator = next_character()
                position += 1
                if separator == "]":
                    break
                if separator != ",":
                    raise DatasetError(
                        f"{path}:{number}: {separator or 'the end'!r} after this object; expected , or ]"
                    )
                number += 1
        if beyond := next_character():
            raise DatasetError(f"{path}: {beyond!r} after the end of the array; a file holds one array, or rows")


def _parquet_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow  # takes 0.1 s, so only for such a file
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_PARQUET_BATCH_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except UnicodeDecodeError:
        raise DatasetError(f"{path}:{number + 1}: not UTF-8 there or soon after; write the file again") from None
    except (pyarrow.ArrowException, OSError) as error:
        raise DatasetError(f"{path}: cannot be read as parquet: {first_line(error)}") from None


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
    """Returns a row's id or category, the default where there is none or an empty one.

    Raises:
        ValueError: it is neither a string nor a whole number.
    """
    value = row.get(key)
    if value is None or value == "":
        return default
    if type(value) not in (str, int):
        raise ValueError(f"{key}={shown(value)}: must be a string or a whole number")
    return str(value)


def can_be_encoded(*texts: str) -> bool:
    """Returns whether UTF-8 can encode the texts. It cannot encode half a surrogate pair, which JSON may hold."""
    try:
        for text in texts:
            text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(value: object) -> str:
    """Returns a value for quoting in a message: in one line, and abbreviated."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
