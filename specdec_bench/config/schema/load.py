"""How requests are offered, and how the target's tokens are chosen."""

import math
from dataclasses import dataclass, field

from omegaconf import MISSING

from specdec_bench.config.schema.ranges import at_least, require


@dataclass(kw_only=True)
class LoadConfig:
    """How requests are offered."""

    name: str = MISSING
    num_warmup: int = 1
    """Requests sent before the measured window, in no figure."""
    repeats: int = 1
    """How often the whole dataset is run within the window."""

    def __post_init__(self) -> None:
        at_least(0, load__num_warmup=self.num_warmup)
        at_least(1, load__repeats=self.repeats)


@dataclass(kw_only=True)
class ClosedLoad(LoadConfig):
    """A fixed number of conversations in flight; the next starts when one ends."""

    name: str = "closed"
    concurrency: int = 1

    def __post_init__(self) -> None:
        LoadConfig.__post_init__(self)
        at_least(1, load__concurrency=self.concurrency)


@dataclass(kw_only=True)
class SamplingConfig:
    """How the target's tokens are chosen and when a request ends."""

    max_new_tokens: int = 128
    min_new_tokens: int = 0
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    top_k: int = 0
    """0 means no limit."""
    ignore_eos: bool = False
    """Generate past the end of sequence up to max_new_tokens; distorts acceptance."""
    stop_token_ids: list[int] = field(default_factory=list)
    """End a request as the model's own end-of-sequence tokens do."""

    def __post_init__(self) -> None:
        at_least(1, sampling__max_new_tokens=self.max_new_tokens)
        at_least(0, sampling__min_new_tokens=self.min_new_tokens, sampling__top_k=self.top_k)
        require(
            self.min_new_tokens <= self.max_new_tokens,
            "sampling.min_new_tokens",
            self.min_new_tokens,
            f"must not exceed sampling.max_new_tokens={self.max_new_tokens}",
        )
        require(
            math.isfinite(self.temperature) and self.temperature >= 0,
            "sampling.temperature",
            self.temperature,
            "must be 0 or more",
        )
        require(0 < self.top_p <= 1, "sampling.top_p", self.top_p, "must lie in (0, 1]")
        for token_id in self.stop_token_ids:
            require(token_id >= 0, "sampling.stop_token_ids", token_id, "token ids are 0 or more")
