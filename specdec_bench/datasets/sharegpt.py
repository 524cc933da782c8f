"""Reads conversations in ShareGPT's format: a row has `conversations`, a list of {from, value}.

Read too: `messages` or `conversation` in its place, {role, content}, contents that are lists of text parts (joined by
line ends), and a system prompt in the row's own field `system`. Speakers' names match in any case.

- The human's messages are the turns, in their order; two in a row are two turns, since the model replies to each.
- The file's model's replies and tools are left out: the measured model gives its own replies. Rows that begin with a
  reply, or that call tools, are noted.
- The first system (or developer) message before the human's first one is the system prompt.
- Other system messages and empty messages of the human's are left out by name.
- A row is not used, by name, if it has no human's message, a speaker not listed below, an image or another non-text
  part in a message to be sent, or half a surrogate pair, which no tokenizer takes.
- An id that repeats an earlier row's gets the row's number added: `a` becomes `a#17`.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from specdec_bench.config.schema.dataset import DatasetConfig
from specdec_bench.datasets.rows import HALF_A_PAIR, can_be_encoded, label, read_rows, required_path, shown
from specdec_bench.errors import DatasetError
from specdec_bench.records.request import Prompt
from specdec_bench.records.unused import Unused

HUMAN = frozenset({"human", "user", "prompter"})
SYSTEM = frozenset({"system", "developer"})
REPLY = frozenset({"gpt", "assistant", "chatgpt", "bing", "bard", "claude", "model", "bot", "ai"})
_CALL = ("tool", "tools", "tool_call", "tool_calls", "function", "function_call")
_RESULT = ("tool_response", "tool_result", "function_response", "observation", "ipython", "environment")
TOOL = frozenset({*_CALL, *_RESULT})
LISTS = ("conversations", "messages", "conversation")
_KNOWN = ("id", "category", "system", "tools", *LISTS)

NO_MESSAGE = "without a message"
NO_HUMAN = "without a message of the human's"
UNKNOWN_SPEAKER = "with an unknown speaker"
NO_TEXT = "with a part that is no text"
BEGINS_WITH_REPLY = "begins with a reply, which is left out"
LATER_SYSTEM = "a later system message is left out"
EMPTY_TURN = "an empty message of the human's is left out"
TOOLS = "tools, their calls and their results are left out"


class Conversation(NamedTuple):
    """The parts of a row that are sent, or why none is."""

    turns: tuple[str, ...]
    system: str | None
    left_out: tuple[str, ...]
    """Why parts of it are not sent."""
    not_used: str | None = None
    """Why none of it is."""
    example: str | None = None
    """An example of the cause."""


class _NotText(Exception):  # noqa: N818  (a row that holds an image is not used; nothing failed)
    """A part of a message is no text; the message is its type."""


def load(config: DatasetConfig, unused: Unused) -> Iterator[tuple[int, Prompt]]:
    """Yields row numbers and conversations of `config.path` that a human takes part in.

    Raises:
        DatasetError: naming file and row.
    """
    path = required_path(config)
    for number, row in read_rows(path):
        try:
            conversation = read_conversation(row)
            prompt_id, category = label(row, "id", str(number)), label(row, "category", "default")
        except ValueError as error:
            raise DatasetError(f"{path}:{number}: {error}") from None
        if is_used(conversation, number, unused):
            unused.add_fields(row, _KNOWN, number)
            yield (
                number,
                Prompt(prompt_id=prompt_id, category=category, turns=conversation.turns, system=conversation.system),
            )


def is_used(conversation: Conversation, number: int, unused: Unused) -> bool:
    """Returns whether a conversation is sent. Notes the parts that are not."""
    if conversation.not_used is not None:
        unused.add_row(conversation.not_used, number, conversation.example)
        return False
    for reason in conversation.left_out:
        unused.add_part(reason, number)
    return True


def read_conversation(row: dict[str, Any]) -> Conversation:
    """Returns the parts of a row that are sent, by the rules of the module's docstring.

    Raises:
        ValueError: the row holds no conversation.
    """
    key = next((key for key in LISTS if isinstance(row.get(key), list)), None)
    if key is None:
        raise ValueError(f"not a conversation: lacks a list of conversations (has {', '.join(row) or 'nothing'})")
    if not row[key]:
        return Conversation((), None, (), NO_MESSAGE)
    turns: list[str] = []
    system: str | None = None
    left_out: dict[str, None] = {TOOLS: None} if row.get("tools") else {}
    begins = True
    try:
        if row.get("system") is not None:
            system = _text(row["system"], "system")
        for message in row[key]:
            speaker, content = _said(message, key)
            role = _role(speaker)
            if role in HUMAN:
                text = _text(content, f"{key}: {speaker}")
                if text.strip():
                    turns.append(text)
                else:
                    left_out[EMPTY_TURN] = None
            elif role in SYSTEM:
                text = _text(content, f"{key}: {speaker}")
                if text.strip() and not turns and not system:
                    system = text
                elif text.strip() and text != system:
                    left_out[LATER_SYSTEM] = None
            elif role in REPLY:
                if begins:
                    left_out[BEGINS_WITH_REPLY] = None
                if message.get("tool_calls") or message.get("function_call"):
                    left_out[TOOLS] = None
            elif role in TOOL:
                left_out[TOOLS] = None
            else:
                return Conversation((), None, (), UNKNOWN_SPEAKER, shown(speaker))
            begins = begins and role in SYSTEM
    except _NotText as error:
        return Conversation((), None, (), NO_TEXT, str(error))
    if not turns:
        return Conversation((), None, (), NO_HUMAN)
    if not can_be_encoded(*turns, system or ""):
        return Conversation((), None, (), HALF_A_PAIR)
    return Conversation(tuple(turns), system or None, tuple(left_out))


def _role(speaker: str) -> str:
    """Returns a speaker's name as the sets above spell it."""
    return speaker.strip().lower().replace("-", "_").replace(" ", "_")


def _said(message: Any, key: str) -> tuple[str, Any]:
    """Returns a message's speaker and its content.

    Raises:
        ValueError: it has none.
    """
    if isinstance(message, dict):
        for speaker_key, content_key in (("from", "value"), ("role", "content")):
            # A reply needs no content: one that calls a tool may have none.
            if isinstance(speaker := message.get(speaker_key), str):
                if content_key not in message and _role(speaker) in HUMAN | SYSTEM:
                    break
                return speaker, message.get(content_key)
    raise ValueError(f"{key}: {shown(message)}: must have the strings from and value, or role and content")


def _text(content: Any, where: str) -> str:
    """Returns a content as text: empty where it is null.

    Raises:
        ValueError: it is neither text nor a list of parts.
        _NotText: one of its parts is no text.
    """
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ValueError(f"{where}: {shown(content)}: must be a string, or a list of parts")
    texts = []
    for part in content:
        text = part.get("text") if isinstance(part, dict) else part
        if not isinstance(text, str):
            kind = part.get("type") if isinstance(part, dict) else part
            raise _NotText(shown(kind))
        texts.append(text)
    return "\n".join(texts)
