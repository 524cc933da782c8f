"""JSON Lines (or a JSON array, or parquet): one conversation a row.

Fields: `turns` (a list of strings) or `prompt` (a string, for one turn); optional `prompt_id` (default: the
row's number), `category` (default: "default"), `system`, `max_new_tokens`. Other fields are noted and not read; those
that look like a setting, or like one of these misspelt, are refused.
"""

import difflib
import functools
from collections.abc import Iterator
from typing import Any

from specdec_bench.config.schema.dataset import DatasetConfig
from specdec_bench.datasets.rows import label, read_prompts, required_path, shown, text_list
from specdec_bench.records.request import Prompt
from specdec_bench.records.unused import Unused

KNOWN = ("prompt_id", "category", "turns", "prompt", "system", "max_new_tokens")
MAX_NEW_TOKENS = 2**31 - 1
"""The highest limit: no engine could count beyond it."""
_LIMIT = "a row's own limit is max_new_tokens"
_SAMPLING = "sampling is the experiment's (sampling.temperature=0 and so on) and the same for all rows"
_SETTINGS = {
    **dict.fromkeys(
        ("max_tokens", "max_output_tokens", "max_completion_tokens", "max_gen_tokens", "max_length"), _LIMIT
    ),
    **dict.fromkeys(("temperature", "top_p", "top_k", "min_p", "stop", "stop_token_ids", "ignore_eos"), _SAMPLING),
    **dict.fromkeys(("min_tokens", "min_new_tokens", "sampling_params"), _SAMPLING),
    **dict.fromkeys(("repetition_penalty", "presence_penalty", "frequency_penalty"), _SAMPLING),
    **dict.fromkeys(("system_prompt", "system_message"), "a row's system prompt is system"),
    **dict.fromkeys(("tools", "chat_template"), "a row cannot have one of its own"),
    **dict.fromkeys(("messages", "conversations"), "dataset=sharegpt reads those; leave prompt and turns out"),
}
"""Fields that other tools read as settings, and this tool's equivalents."""


def load(config: DatasetConfig, unused: Unused) -> Iterator[tuple[int, Prompt]]:
    """Yields row numbers and prompts of `config.path`.

    Raises:
        DatasetError: naming file and line.
    """

    def convert(row: dict[str, Any], number: int) -> Prompt:
        prompt = to_prompt(row, number)
        for name in row:
            if name not in KNOWN and (instead := _instead(name)) is not None:
                raise ValueError(f"{shown(name)}: {shown(row[name])}: nothing reads this field; {instead}")
        unused.add_fields(row, KNOWN, number)
        return prompt

    return read_prompts(required_path(config), convert)


@functools.cache
def _instead(name: str) -> str | None:
    """Returns what to write instead of a field that must not be ignored; None for mere information."""
    if name in _SETTINGS:
        return _SETTINGS[name]
    near = difflib.get_close_matches(name.lower(), KNOWN, n=1, cutoff=0.85)
    return f"is {near[0]} meant?" if near else None


def to_prompt(row: dict[str, Any], number: int) -> Prompt:
    """Returns the row's prompt.

    Raises:
        ValueError: the row is not what the module's docstring says.
    """
    if "turns" in row and "prompt" in row:
        raise ValueError("has both turns and prompt; give one of them")
    if "prompt" in row:
        turns = text_list({"prompt": [row["prompt"]]}, "prompt")
    elif "turns" in row:
        turns = text_list(row, "turns")
    else:
        hint = "; dataset=sharegpt reads conversations" if row.keys() & {"conversations", "messages"} else ""
        raise ValueError(
            f"has neither turns nor prompt; its fields are {', '.join(row) or 'none'}, "
            f"known are {', '.join(sorted(KNOWN))}{hint}"
        )
    system, max_new_tokens = row.get("system"), row.get("max_new_tokens")
    if system is not None and not isinstance(system, str):
        raise ValueError(f"system={shown(system)}: must be a string")
    if max_new_tokens is not None and (type(max_new_tokens) is not int or not 1 <= max_new_tokens <= MAX_NEW_TOKENS):
        raise ValueError(
            f"max_new_tokens={shown(max_new_tokens)}: must be a whole number of at least 1, at most {MAX_NEW_TOKENS}"
        )
    return Prompt(
        prompt_id=label(row, "prompt_id", str(number)),
        category=label(row, "category", "default"),
        turns=turns,
        system=system,
        max_new_tokens=max_new_tokens,
    )
