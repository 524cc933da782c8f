"""JSON Lines (or a JSON array, or parquet): one conversation a row.

Fields: `turns` (a list of strings) or `prompt` (a string, for one turn); optional `prompt_id` (default: the
row's number), `category` (default: "default"), `system`, `max_new_tokens`.
"""

from collections.abc import Iterator
from typing import Any

from specdec_bench.config.schema import DatasetConfig
from specdec_bench.datasets.rows import label, read_prompts, required_path, text_list
from specdec_bench.records import Prompt


def load(config: DatasetConfig) -> Iterator[Prompt]:
    """Yields the prompts of `config.path`.

    Raises:
        DatasetError: naming file and line.
    """
    return read_prompts(required_path(config), to_prompt)


def to_prompt(row: dict[str, Any], number: int) -> Prompt:
    """Returns the row's prompt.

    Raises:
        ValueError: the row is not what the module's docstring says.
    """
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
