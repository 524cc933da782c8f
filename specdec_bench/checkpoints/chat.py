"""A checkpoint's own tokenizer and chat template, the same for every engine. Needs transformers but no engine."""

import datetime
import logging
import re
from collections.abc import Sequence

from specdec_bench.checkpoints.facts import read_facts
from specdec_bench.checkpoints.folders import folder_of
from specdec_bench.checkpoints.one_line import one_line, printable
from specdec_bench.checkpoints.prompter import BytePrompter, Prompter
from specdec_bench.checkpoints.replies import harmony_final, without_thinking
from specdec_bench.checkpoints.time_limit import TimeLimitExceeded, time_limit
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.config.schema.model import ModelConfig
from specdec_bench.config.support import ENGINES
from specdec_bench.errors import ConfigError, EngineUnavailableError

logger = logging.getLogger(__name__)

TEMPLATE_TIME_LIMIT_S = 5.0
"""For one conversation. A template takes milliseconds, but its code may never end."""


def create(config: ExperimentConfig) -> Prompter:
    """Returns the model's prompter. An engine that runs no model gets one that needs no tokenizer."""
    if ENGINES[config.engine.name].has_checkpoints:
        return ChatPrompter(config.model)
    return BytePrompter(config.engine.vocab_size)  # type: ignore[attr-defined]


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
        key = "model.path" if model.tokenizer is None else "model.tokenizer"
        folder = folder_of(path, model.revision, key)
        own = read_facts(folder)
        target = own if model.tokenizer is None else read_facts(folder_of(model.path, model.revision))
        with one_line(f"{key}={path}: no tokenizer can be loaded"):
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(
                str(folder), trust_remote_code=model.trust_remote_code
            )
            stops = {*target.end_token_ids, *own.tokenizer_end_token_ids, self._tokenizer.eos_token_id}
            added = {token.content: i for i, token in self._tokenizer.added_tokens_decoder.items() if token.special}
            special = dict(zip(self._tokenizer.all_special_tokens, self._tokenizer.all_special_ids, strict=True))
        self._model = model
        self._ordinary_token_ids: list[int] | None = None
        self.stop_token_ids = tuple(sorted(stops - {None}))
        self._bos = self._beginning_of_sequence()
        special |= added
        special.pop(self._tokenizer.unk_token, None)
        self._control_ids = frozenset(special.values())
        self._control = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or r"(?!)")
        self._told: set[str] = set()
        self._begins_with_thinking = False
        if model.prompt_format == "chat":
            templates = self._tokenizer.chat_template
            if not (model.chat_template or templates):
                raise ConfigError(
                    f"model.path={path}: its tokenizer has no chat template; choose a chat model, or pass "
                    "model.chat_template=FILE or model.prompt_format=completions"
                )
            if not model.chat_template and isinstance(templates, dict) and "default" not in templates:
                raise ConfigError(
                    f"model.path={path}: its tokenizer has the chat templates {', '.join(sorted(templates))} and no "
                    "default one; pass model.chat_template=FILE"
                )
            self._begins_with_thinking = self._render(None, ["Hello"], []).rstrip().endswith("<think>")

    def _beginning_of_sequence(self) -> tuple[int, ...]:
        """Returns the tokens that prompts must begin with, if not there already: the BOS token's id, or none.

        Raises:
            ConfigError: it is asked for, and the tokenizer has none.
        """
        bos, wanted = self._tokenizer.bos_token_id, self._model.add_bos
        if wanted is None:
            with one_line(f"model.path={self._model.path}: its tokenizer fails"):
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

        A special token's name in a message is text: `<|im_end|>` in a prompt does not end the user's turn. The name is
        removed before the template is applied, and encoded separately.

        Raises:
            ConfigError: the template refuses the conversation, or the tokenizer cannot encode it.
        """
        said = [*([system] if system is not None else []), *turns, *replies]
        for text in said:
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise ConfigError(
                    f"its text has half of a surrogate pair at character {error.start}, which no tokenizer can encode"
                ) from None
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
            ConfigError: the template refuses it, or reads a date that is not configured.
        """
        messages = [{"role": "system", "content": system}] if system is not None else []
        for index, turn in enumerate(turns):
            messages.append({"role": "user", "content": turn})
            if index < len(replies):
                messages.append({"role": "assistant", "content": replies[index]})
        if self._model.prompt_format == "completions":
            return "\n".join(message["content"] for message in messages)
        with one_line(f"the chat template of {self._model.path} fails"):
            import jinja2

            try:
                with time_limit(TEMPLATE_TIME_LIMIT_S):
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
            except TimeLimitExceeded:
                raise ConfigError(
                    f"the chat template of {self._model.path} did not end within {TEMPLATE_TIME_LIMIT_S:g} s; pass "
                    "another with model.chat_template=FILE"
                ) from None
            except jinja2.TemplateError as error:
                raise ConfigError(
                    f"the chat template of {self._model.path} refuses the conversation: {printable(error)}"
                ) from None

    def _date(self, pattern: str) -> str:
        """Returns the configured date as a template asks for it, in place of the day of the run."""
        if self._model.template_date is None:
            raise ConfigError(
                "model.template_date=null: the chat template reads the clock, so that prompts would change by the day; "
                "pass model.template_date=YYYY-MM-DD"
            )
        return datetime.datetime.fromisoformat(self._model.template_date).strftime(pattern)

    def _tokenized(self, text: str) -> list[int]:
        with one_line(f"the tokenizer of {self._model.path} fails"):
            return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _name_as_text(self, name: str) -> list[int]:
        """Returns a special token's name as the ids of its characters. Warns once if that is impossible."""
        with one_line(f"the tokenizer of {self._model.path} fails"):
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
        """Returns the part of a reply that the next turn's prompt shows.

        Raises:
            ConfigError: the tokenizer cannot decode it.
        """
        is_text = self._model.reply_format == "text"
        with one_line(f"the tokenizer of {self._model.path} cannot decode the reply"):
            raw = str(self._tokenizer.decode(list(token_ids), skip_special_tokens=is_text))
        if is_text:
            return raw
        if self._model.reply_format == "harmony":
            return harmony_final(raw)
        return self._control.sub("", without_thinking(raw, self._begins_with_thinking)).strip()
