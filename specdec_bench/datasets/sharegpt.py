"""Conversations as ShareGPT's files hold them: a row has `conversations`, a list of {from, value}.

The human's messages become the turns, in their order; the replies of whatever model wrote the file are left out,
since the measured model gives its own. A system message becomes the system prompt. Rows without a human message
are passed over and counted in the log. {role, content} is read too, and `messages` for `conversations`.
"""

import logging
from collections.abc import Iterator
from typing import Any

from specdec_bench.config.schema import DatasetConfig
from specdec_bench.datasets.rows import label, read_rows, required_path, shown
from specdec_bench.errors import DatasetError
from specdec_bench.records import Prompt

logger = logging.getLogger(__name__)

HUMAN = ("human", "user")
SYSTEM = ("system",)


def load(config: DatasetConfig) -> Iterator[Prompt]:
    """Yields the conversations of `config.path` that a human takes part in.

    Raises:
        DatasetError: naming file and row.
    """
    path = required_path(config)
    num_empty = 0
    for number, row in read_rows(path):
        try:
            turns, system = human_turns(row)
            prompt_id, category = label(row, "id", str(number)), label(row, "category", "default")
        except ValueError as error:
            raise DatasetError(f"{path}:{number}: {error}") from None
        if turns:
            yield Prompt(prompt_id=prompt_id, category=category, turns=turns, system=system)
        else:
            num_empty += 1
    if num_empty:
        logger.info("%s: %d conversations without a human's message were passed over", path, num_empty)


def human_turns(row: dict[str, Any]) -> tuple[tuple[str, ...], str | None]:
    """Returns what the human says, in order, and the system message, if any; empty messages are left out.

    Raises:
        ValueError: the row holds no conversation.
    """
    key = "conversations" if "conversations" in row else "messages"
    messages = row.get(key)
    if not isinstance(messages, list):
        raise ValueError(f"no conversation: lacks a list of conversations (has {', '.join(row) or 'nothing'})")
    turns, system = [], None
    for message in messages:
        speaker, text = _said(message)
        if not isinstance(speaker, str) or not isinstance(text, str):
            raise ValueError(f"{key}: {shown(message)}: must have the strings from and value, or role and content")
        if speaker in HUMAN and text:
            turns.append(text)
        elif speaker in SYSTEM and text and system is None:
            system = text
    return tuple(turns), system


def _said(message: Any) -> tuple[Any, Any]:
    if not isinstance(message, dict):
        return None, None
    return (
        (message.get("from"), message.get("value"))
        if "from" in message
        else (
            message.get("role"),
            message.get("content"),
        )
    )
