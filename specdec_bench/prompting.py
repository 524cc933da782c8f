"""Conversations to token ids and back, the same for every engine. Runs in the measuring process."""

import datetime
import logging
import random
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from specdec_bench.config.checkpoints import resolve
from specdec_bench.config.schema import ExperimentConfig, ModelConfig, SyntheticEngine
from specdec_bench.datasets import hub
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

    def reply(self, token_ids: Sequence[int]) -> str:
        """Returns what of a reply the conversation's next prompt holds, as `model.reply_format` says."""


def create(config: ExperimentConfig) -> Prompter:
    """Returns the model's prompter; for the synthetic engine one that needs no tokenizer."""
    if isinstance(config.engine, SyntheticEngine):
        return BytePrompter(config.engine.vocab_size)
    return ChatPrompter(config.model)


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
    """The checkpoint's own tokenizer, and its chat template or the one that replaces it."""

    def __init__(self, model: ModelConfig) -> None:
        """Loads the tokenizer.

        Raises:
            EngineUnavailableError: transformers is not installed.
            ConfigError: there is no such tokenizer, it has no chat template, or the template cannot be used.
        """
        try:
            import transformers
        except ImportError as error:
            raise EngineUnavailableError(
                f"tokenizing needs transformers ({error}); install specdec-bench[transformers]"
            ) from None
        path = model.tokenizer or model.path
        options: dict[str, Any] = {"revision": model.revision, "trust_remote_code": model.trust_remote_code}
        # transformers asks a hub that does not answer for a minute, file after file.
        options["local_files_only"] = is_cut_off = not Path(resolve(path)).is_dir() and not hub.is_reachable()
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(resolve(path), **options)
        except (OSError, ValueError) as error:
            if is_cut_off:
                raise ConfigError(
                    f"model.path={path}: not in the cache, and the hub cannot be reached from here; pass a folder"
                ) from None
            raise ConfigError(f"model.path={path}: no tokenizer can be loaded: {str(error).splitlines()[0]}") from None
        self._model = model
        self._ordinary_token_ids: list[int] | None = None
        self.stop_token_ids = self._end_of_sequence(transformers, path, options)
        self._bos = self._beginning_of_sequence()
        added = {token.content: i for i, token in self._tokenizer.added_tokens_decoder.items() if token.special}
        special = dict(zip(self._tokenizer.all_special_tokens, self._tokenizer.all_special_ids, strict=True)) | added
        special.pop(self._tokenizer.unk_token, None)
        self._control_ids = frozenset(special.values())
        self._control = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or r"(?!)")
        self._told: set[str] = set()
        self._begins_with_thinking = False
        if model.prompt_format == "chat":
            if not (model.chat_template or self._tokenizer.chat_template):
                raise ConfigError(
                    f"model.path={path}: its tokenizer has no chat template; choose a chat model, or pass "
                    "model.chat_template=FILE or model.prompt_format=completions"
                )
            self._begins_with_thinking = self._render(None, ["Hello"], []).rstrip().endswith("<think>")

    def _end_of_sequence(self, transformers: Any, path: str, options: dict[str, Any]) -> tuple[int, ...]:
        """Returns the ids at which the checkpoint says a reply ends: its generation config's and its tokenizer's."""
        try:
            configured = transformers.GenerationConfig.from_pretrained(resolve(path), **options).eos_token_id
        except OSError:  # a checkpoint need not have a generation config
            configured = None
        ids = configured if isinstance(configured, list) else [configured]
        return tuple(sorted({i for i in (*ids, self._tokenizer.eos_token_id) if i is not None}))

    def _beginning_of_sequence(self) -> tuple[int, ...]:
        """Returns what prompts are to begin with, where it is not there already: the BOS token's id, or nothing.

        Raises:
            ConfigError: it is asked for, and the tokenizer has none.
        """
        bos, wanted = self._tokenizer.bos_token_id, self._model.add_bos
        if wanted is None:
            by_itself = self._tokenizer("a")["input_ids"][:1] == [bos]
            wanted = self._model.prompt_format == "completions" and by_itself
        if wanted and bos is None:
            raise ConfigError("model.add_bos=true: the tokenizer has no beginning-of-sequence token; leave it null")
        return (bos,) if wanted else ()

    def ordinary_token_ids(self) -> Sequence[int]:
        """Returns the vocabulary's ids without special and added tokens."""
        if self._ordinary_token_ids is None:
            left_out = {*self._tokenizer.all_special_ids, *self._tokenizer.get_added_vocab().values()}
            self._ordinary_token_ids = sorted(set(self._tokenizer.get_vocab().values()) - left_out)
        return self._ordinary_token_ids

    def encode(self, system: str | None, turns: Sequence[str], replies: Sequence[str]) -> tuple[int, ...]:
        """Returns the conversation's ids, with one BOS at most.

        A special token's name in what was said is text: `<|im_end|>` in a prompt does not end the user's turn. It is
        taken out before the template is applied, and encoded by itself.

        Raises:
            ConfigError: the template refuses the conversation.
        """
        said = [*([system] if system is not None else []), *turns, *replies]
        names = sorted({name for text in said for name in self._control.findall(text)})
        if not names:
            return self._with_bos(self._tokenized(self._render(system, turns, replies)))
        mark = next(character for character in map(chr, range(0xE000, 0xF900)) if not any(character in s for s in said))
        numbers = {name: f"{mark}{index}{mark}" for index, name in enumerate(names)}

        def without_names(text: str) -> str:
            return self._control.sub(lambda found: numbers[found[0]], text)

        rendered = self._render(
            without_names(system) if system is not None else None,
            [without_names(turn) for turn in turns],
            [without_names(reply) for reply in replies],
        )
        ids: list[int] = []
        for index, part in enumerate(re.split(f"{mark}([0-9]+){mark}", rendered)):
            ids += self._name_as_text(names[int(part)]) if index % 2 else self._tokenized(part)
        return self._with_bos(ids)

    def _render(self, system: str | None, turns: Sequence[str], replies: Sequence[str]) -> str:
        """Returns the conversation as one text.

        Raises:
            ConfigError: the template refuses it, or reads a clock that nobody set.
        """
        messages = [{"role": "system", "content": system}] if system is not None else []
        for index, turn in enumerate(turns):
            messages.append({"role": "user", "content": turn})
            if index < len(replies):
                messages.append({"role": "assistant", "content": replies[index]})
        if self._model.prompt_format == "completions":
            return "\n".join(message["content"] for message in messages)
        import jinja2

        try:
            return str(
                self._tokenizer.apply_chat_template(
                    messages,
                    chat_template=self._model.chat_template,
                    tokenize=False,
                    add_generation_prompt=True,
                    strftime_now=self._date,
                    **self._model.chat_template_kwargs,
                )
            )
        except jinja2.TemplateError as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ConfigError(f"the chat template of {self._model.path} refuses the conversation: {reason}") from None

    def _date(self, pattern: str) -> str:
        """Returns the configured date as a template asks for it, in place of the day of the run."""
        if self._model.template_date is None:
            raise ConfigError(
                "model.template_date=null: the chat template reads the clock, so that prompts would change by the day; "
                "pass model.template_date=YYYY-MM-DD"
            )
        return datetime.datetime.fromisoformat(self._model.template_date).strftime(pattern)

    def _tokenized(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _name_as_text(self, name: str) -> list[int]:
        """Returns a special token's name as the ids of its characters; where that is impossible, says so once."""
        ids = list(self._tokenizer(name, add_special_tokens=False, split_special_tokens=True)["input_ids"])
        if self._control_ids.intersection(ids) and name not in self._told:
            self._told.add(name)
            logger.warning("%s stands in a prompt; this tokenizer cannot encode it as text: it acts as a token", name)
        return ids

    def _with_bos(self, ids: list[int]) -> tuple[int, ...]:
        return tuple(ids) if tuple(ids[:1]) == self._bos else (*self._bos, *ids)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Returns the reply's text."""
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=True))

    def reply(self, token_ids: Sequence[int]) -> str:
        """Returns what of a reply the next turn shows."""
        if self._model.reply_format == "text":
            return self.decode(token_ids)
        raw = str(self._tokenizer.decode(list(token_ids), skip_special_tokens=False))
        if self._model.reply_format == "harmony":
            return harmony_final(raw)
        return self._control.sub("", without_thinking(raw, self._begins_with_thinking)).strip()


def harmony_final(raw: str) -> str:
    """Returns the last message of the final channel; empty where the reply ended before one.

    Source: OpenAI's harmony format, as gpt-oss's chat template writes it.
    """
    begin = r"<\|channel\|>final[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>"
    end = r"<\|(?:end|return|start|channel|call)\|>|\Z"
    found = re.findall(f"{begin}(.*?)(?={end})", raw, re.DOTALL)
    return str(found[-1]) if found else ""


def without_thinking(raw: str, begins_with_thinking: bool) -> str:
    """Returns what stands behind the last </think>; of a reply that ended while thinking, what stood before it.

    Args:
        raw: the reply.
        begins_with_thinking: the prompt ends in an opening tag of its own, which the reply then lacks.
    """
    before, closing, after = raw.rpartition("</think>")
    if closing:
        return after
    before, opening, _ = raw.partition("<think>")
    return "" if begins_with_thinking and not opening else before


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
