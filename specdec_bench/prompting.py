"""Conversations to token ids and back, the same for every engine. Runs in the measuring process."""

import logging
import random
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from specdec_bench.config.checkpoints import resolve
from specdec_bench.config.schema import ExperimentConfig, SyntheticEngine
from specdec_bench.errors import ConfigError, EngineUnavailableError
from specdec_bench.records import Prompt

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
        """

    def decode(self, token_ids: Sequence[int]) -> str:
        """Returns the text of a reply, without special tokens."""


def create(config: ExperimentConfig) -> Prompter:
    """Returns the model's prompter; for the synthetic engine one that needs no tokenizer."""
    if isinstance(config.engine, SyntheticEngine):
        return BytePrompter(config.engine.vocab_size)
    model = config.model
    return ChatPrompter(model.tokenizer or model.path, model.revision, model.trust_remote_code)


def first_requests(prompter: Prompter, prompts: Iterable[Prompt]) -> list[tuple[int, ...]]:
    """Returns the token ids of every prompt's first request, and says so where they are random ones."""
    prompts = list(prompts)
    if any(prompt.random_tokens is not None for prompt in prompts):
        logger.warning(
            "the prompts are random token ids: lengths are exact, but acceptance on random text says little of real use"
        )
    return [first_request(prompter, prompt) for prompt in prompts]


def first_request(prompter: Prompter, prompt: Prompt) -> tuple[int, ...]:
    """Returns the token ids of a prompt's first request.

    Random ids go to the engine as they are, in no chat template. Their text is never made: tokenized again, it would
    have another length.
    """
    if prompt.random_tokens is None:
        return prompter.encode(prompt.system, prompt.turns[:1], ())
    draw = random.Random(f"random tokens {prompt.random_tokens.seed} {prompt.prompt_id}")
    return tuple(draw.choices(prompter.ordinary_token_ids(), k=prompt.random_tokens.num_tokens))


class ChatPrompter:
    """The checkpoint's own tokenizer and chat template."""

    def __init__(self, path: str, revision: str | None, trust_remote_code: bool) -> None:
        """Loads the tokenizer.

        Raises:
            EngineUnavailableError: transformers is not installed.
            ConfigError: there is no such tokenizer, or it has no chat template.
        """
        try:
            import transformers
        except ImportError as error:
            raise EngineUnavailableError(
                f"tokenizing needs transformers ({error}); install specdec-bench[transformers]"
            ) from None
        options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(resolve(path), **options)
        except (OSError, ValueError) as error:
            raise ConfigError(f"model.path={path}: no tokenizer can be loaded: {str(error).splitlines()[0]}") from None
        if not self._tokenizer.chat_template:
            raise ConfigError(f"model.path={path}: its tokenizer has no chat template; choose a chat model")
        self.stop_token_ids = self._end_of_sequence(transformers, path, options)
        self._ordinary_token_ids: list[int] | None = None

    def _end_of_sequence(self, transformers: Any, path: str, options: dict[str, Any]) -> tuple[int, ...]:
        """Returns the ids at which the checkpoint says a reply ends: its generation config's and its tokenizer's."""
        try:
            configured = transformers.GenerationConfig.from_pretrained(resolve(path), **options).eos_token_id
        except OSError:  # a checkpoint need not have a generation config
            configured = None
        ids = configured if isinstance(configured, list) else [configured]
        return tuple(sorted({i for i in (*ids, self._tokenizer.eos_token_id) if i is not None}))

    def ordinary_token_ids(self) -> Sequence[int]:
        """Returns the vocabulary's ids without special and added tokens."""
        if self._ordinary_token_ids is None:
            left_out = {*self._tokenizer.all_special_ids, *self._tokenizer.get_added_vocab().values()}
            self._ordinary_token_ids = sorted(set(self._tokenizer.get_vocab().values()) - left_out)
        return self._ordinary_token_ids

    def encode(self, system: str | None, turns: Sequence[str], replies: Sequence[str]) -> tuple[int, ...]:
        """Returns the rendered conversation's ids. The template writes any BOS; none is added to it."""
        messages = [{"role": "system", "content": system}] if system is not None else []
        for index, turn in enumerate(turns):
            messages.append({"role": "user", "content": turn})
            if index < len(replies):
                messages.append({"role": "assistant", "content": replies[index]})
        text = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def decode(self, token_ids: Sequence[int]) -> str:
        """Returns the reply's text."""
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=True))


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
