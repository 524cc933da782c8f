"""A tokenizer of seventeen words."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from specdec_bench.checkpoints.chat import ChatPrompter
from specdec_bench.config.schema.model import ModelConfig

SPECIAL = ["<unk>", "<s>", "</s>", "<sys>", "<user>", "<bot>", "<end>"]

WORDS = ["be", "brief", "hello", "there", "how", "are", "you", "fine", "good", "bye"]

IDS = {word: index for index, word in enumerate([*SPECIAL, *WORDS])}

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ {'system': '<sys>', 'user': '<user>', 'assistant': '<bot>'}[message['role']] }}"
    " {{ message['content'] }} <end>{% endfor %}"
    "{% if add_generation_prompt %}<bot>{% endif %}"
)

NewCheckpoint = Callable[..., Path]


def ids(text: str) -> tuple[int, ...]:
    return tuple(IDS[word] for word in text.split())


def chat(path: Path | str, **model: Any) -> ChatPrompter:
    return ChatPrompter(ModelConfig(name="m", path=str(path), **model))
