"""JSON Lines: one conversation a line. Also what the other line-based sources are read with.

Fields: `turns` (a list of strings) or `prompt` (a string, for one turn); optional `prompt_id` (default: the
line number), `category` (default: "default"), `system`, `max_new_tokens`.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from specdec_bench.config.schema import DatasetConfig
from specdec_bench.errors import DatasetError
from specdec_bench.records import Prompt


def load(config: DatasetConfig) -> list[Prompt]:
    """Returns the prompts of `config.path`.

    Raises:
        DatasetError: naming file and line.
    """
    return read_prompts(required_path(config), _prompt)


def required_path(config: DatasetConfig) -> Path:
    """Returns the dataset's file.

    Raises:
        DatasetError: no path was given, or there is no such file.
    """
    if config.path is None:
        raise DatasetError(f"dataset={config.name}: needs its file; pass dataset.path=FILE.jsonl")
    path = Path(config.path).expanduser()
    if not path.is_file():
        raise DatasetError(f"dataset.path={config.path}: no such file; pass the path of a JSON Lines file")
    return path


def read_prompts(path: Path, convert: Callable[[dict[str, Any], int], Prompt]) -> list[Prompt]:
    """Returns each line's object, converted. `convert` gets the object and the line number.

    Raises:
        DatasetError: a line is no JSON object, or `convert` raised ValueError, by file and line.
    """
    prompts = []
    for number, row in read_lines(path):
        try:
            prompts.append(convert(row, number))
        except ValueError as error:
            raise DatasetError(f"{path}:{number}: {error}") from None
    return prompts


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields line numbers from 1 and JSON objects; blank lines are passed over.

    Raises:
        DatasetError: a line is not UTF-8 or no JSON object.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                raise DatasetError(f"{path}:{number}: not UTF-8 (byte {error.start}); save the file as UTF-8") from None
            except ValueError as error:
                raise DatasetError(f"{path}:{number}: not JSON: {error}") from None
            if not isinstance(row, dict):
                raise DatasetError(f"{path}:{number}: a JSON {type(row).__name__}; each line must be an object")
            yield number, row


def text_list(row: dict[str, Any], key: str) -> tuple[str, ...]:
    """Returns a row's non-empty list of non-empty strings.

    Raises:
        ValueError: it is something else.
    """
    value = row.get(key)
    if not isinstance(value, list) or not value or not all(isinstance(text, str) and text for text in value):
        raise ValueError(f"{key}={value!r}: must be a non-empty list of non-empty strings")
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
        raise ValueError(f"{key}={value!r}: must be a string or a whole number")
    return str(value)


def _prompt(row: dict[str, Any], number: int) -> Prompt:
    known = {"prompt_id", "category", "turns", "prompt", "system", "max_new_tokens"}
    if "turns" in row and "prompt" in row:
        raise ValueError("has both turns and prompt; give one of them")
    if "prompt" in row:
        turns = text_list({"prompt": [row["prompt"]]}, "prompt")
    elif "turns" in row:
        turns = text_list(row, "turns")
    else:
        raise ValueError(
            f"has neither turns nor prompt; its fields are {', '.join(row) or 'none'}, "
            f"known are {', '.join(sorted(known))}"
        )
    system, max_new_tokens = row.get("system"), row.get("max_new_tokens")
    if system is not None and not isinstance(system, str):
        raise ValueError(f"system={system!r}: must be a string")
    if max_new_tokens is not None and (type(max_new_tokens) is not int or max_new_tokens < 1):
        raise ValueError(f"max_new_tokens={max_new_tokens!r}: must be a whole number of at least 1")
    return Prompt(
        prompt_id=label(row, "prompt_id", str(number)),
        category=label(row, "category", "default"),
        turns=turns,
        system=system,
        max_new_tokens=max_new_tokens,
    )
