"""The target, its prompts and its known drafts."""

import datetime
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from omegaconf import MISSING

from specdec_bench.config.schema.ranges import Bounded, FreeText, Range, require
from specdec_bench.errors import ConfigError


@dataclass(kw_only=True)
class DraftCheckpoint:
    """Where a draft is."""

    path: str | None = None
    """As `model.path`."""
    revision: str | None = None
    allow_vocabulary_differences: bool = False
    """Takes a draft some entries of whose vocabulary are other tokens than the target's: a renamed filler token, say.
    Their number is in the manifest. Where such tokens are drafted, fewer drafts are accepted."""


@dataclass(kw_only=True)
class ModelConfig(Bounded):
    """The target: the model whose output counts."""

    GROUP: ClassVar[str] = "model"

    name: str = MISSING
    path: str = MISSING
    """A local folder, a hub id, bundled:NAME for a checkpoint that ships with the project, fetched:NAME for one that
    `specdec-bench fetch` made, or trained:NAME for one that a script of training/ made."""
    revision: str | None = None
    """Commit of a hub checkpoint; pin it for runs that are to be archived."""
    tokenizer: str | None = None
    """Where the tokenizer is, if not with the model."""
    dtype: str = "auto"
    """auto (as stored), float64, float32, bfloat16 or float16; holds for the draft too."""
    max_seq_len: Annotated[int | None, Range(2, 2**24, "no model has a longer context")] = None
    """Prompt and output tokens of one request; null takes the checkpoint's own limit."""
    trust_remote_code: bool = False
    """Runs Python code that comes with a checkpoint. Only for sources that you trust."""
    drafts: dict[str, DraftCheckpoint] = field(default_factory=dict)
    """Known drafts by spec method, `METHOD_parallel` for spec.parallel_drafting=true; what `spec.draft.path: null`
    stands for."""
    prompt_format: str = "chat"
    """chat: the conversation in the chat template; completions: its bare text, a newline between the messages."""
    chat_template: Annotated[str | None, FreeText()] = None
    """A file with a template that replaces the tokenizer's own. Its text is archived in its place."""
    chat_template_kwargs: Annotated[dict[str, Any], FreeText()] = field(default_factory=dict)
    """The template's own arguments: enable_thinking, reasoning_effort, ..."""
    template_date: str | None = None
    """YYYY-MM-DD: what a template that reads the clock is told, so that prompts do not change by the day."""
    add_bos: bool | None = None
    """Begins prompts with the beginning-of-sequence token, never twice; null does so in completions where the tokenizer
    by itself would, and leaves it to the template in a chat."""
    reply_format: str = "text"
    """What of a reply the next turn shows: text (all of it), harmony (gpt-oss's final channel), think (without what
    stands before </think>). The archive keeps the whole reply."""

    def __post_init__(self) -> None:
        Bounded.__post_init__(self)
        known: tuple[str, ...] = ("auto", "float64", "float32", "bfloat16", "float16")
        require(self.dtype in known, "model.dtype", self.dtype, f"use one of {', '.join(known)}")
        known = ("chat", "completions")
        require(self.prompt_format in known, "model.prompt_format", self.prompt_format, "use chat or completions")
        known = ("text", "harmony", "think")
        require(self.reply_format in known, "model.reply_format", self.reply_format, "use text, harmony or think")
        if self.prompt_format == "completions":
            fix = "has no effect with model.prompt_format=completions; leave it out"
            require(self.chat_template is None, "model.chat_template", self.chat_template, fix)
            require(not self.chat_template_kwargs, "model.chat_template_kwargs", self.chat_template_kwargs, fix)
        taken = ("messages", "conversation", "chat_template", "tokenize", "add_generation_prompt", "strftime_now")
        for key, value in self.chat_template_kwargs.items():
            require(key not in taken, f"model.chat_template_kwargs.{key}", value, "the project sets that itself")
        if self.template_date is not None:
            fix = "must be a date as in 2025-08-05"
            try:
                require(len(self.template_date) == 10, "model.template_date", self.template_date, fix)
                datetime.date.fromisoformat(self.template_date)
            except ValueError:
                raise ConfigError(f"model.template_date={self.template_date}: {fix}") from None


OPTIONS: dict[str, type] = {
    "checkpoint": ModelConfig,
}
"""The dataclass behind each option of the group."""
