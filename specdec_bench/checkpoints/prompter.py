"""Converts conversations to token ids and back: the prompter's protocol, and the synthetic engine's prompter."""

import logging
import random
from collections.abc import Iterable, Sequence
from typing import Protocol

from specdec_bench.errors import ConfigError
from specdec_bench.records.request import Prompt

logger = logging.getLogger(__name__)


class Prompter(Protocol):
    """Encodes what has been said so far; decodes what the model replied."""

    stop_token_ids: tuple[int, ...]
    """The model's own end-of-sequence tokens."""

    def ordinary_token_ids(self) -> Sequence[int]:
        """Returns the vocabulary's ids, rising, without special and added tokens."""

    def encode(self, system: str | None, turns: Sequence[str], replies: Sequence[str]) -> tuple[int, ...]:
        """Returns the token ids of a conversation up to where the model replies to the last turn.

        Args:
            system: the system message, if any.
            turns: the user's turns, at least one.
            replies: the model's replies to all turns but the last.

        Raises:
            ConfigError: the chat template or the tokenizer does not take the conversation.
        """

    def decode(self, token_ids: Sequence[int]) -> str:
        """Returns the text of a reply, without special tokens."""

    def reply(self, token_ids: Sequence[int]) -> str:
        """Returns the part of a reply that the conversation's next prompt holds, by `model.reply_format`."""


def first_requests(prompter: Prompter, prompts: Iterable[Prompt]) -> list[tuple[int, ...]]:
    """Returns the token ids of every prompt's first request. Warns if any are random.

    Raises:
        ConfigError: one cannot be encoded; naming it.
    """
    prompts = list(prompts)
    if any(prompt.random_tokens is not None for prompt in prompts):
        logger.warning(
            "the prompts are random token ids: lengths are exact, but acceptance on random text says little of real use"
        )
    return [first_request(prompter, prompt) for prompt in prompts]


def first_request(prompter: Prompter, prompt: Prompt) -> tuple[int, ...]:
    """Returns the token ids of a prompt's first request.

    Random ids go to the engine unchanged, without a chat template. They are never decoded to text: tokenized again,
    it would have another length.

    Raises:
        ConfigError: it cannot be encoded; naming the prompt.
    """
    if prompt.random_tokens is None:
        try:
            return prompter.encode(prompt.system, prompt.turns[:1], ())
        except ConfigError as error:
            raise ConfigError(f"prompt {prompt.prompt_id}: {error}") from None
    draw = random.Random(f"random tokens {prompt.random_tokens.seed} {prompt.prompt_id}")
    return tuple(draw.choices(prompter.ordinary_token_ids(), k=prompt.random_tokens.num_tokens))


class BytePrompter:
    """One token a byte: for the synthetic engine, which does not read its prompt."""

    def __init__(self, vocab_size: int) -> None:
        self._vocab_size = vocab_size
        self.stop_token_ids: tuple[int, ...] = (0,)

    def ordinary_token_ids(self) -> Sequence[int]:
        """Returns every id but the one that ends a reply."""
        return range(1, self._vocab_size)

    def encode(self, system: str | None, turns: Sequence[str], replies: Sequence[str]) -> tuple[int, ...]:
        """Returns the conversation's bytes, folded into the vocabulary."""
        text = "\n".join([*([system] if system is not None else []), *turns, *replies])
        return tuple(byte % self._vocab_size for byte in text.encode("utf-8", "surrogatepass"))

    def decode(self, token_ids: Sequence[int]) -> str:
        """Returns a printable stand-in for the tokens."""
        return "".join(chr(32 + token_id % 95) for token_id in token_ids)

    def reply(self, token_ids: Sequence[int]) -> str:
        """Returns the same."""
        return self.decode(token_ids)
