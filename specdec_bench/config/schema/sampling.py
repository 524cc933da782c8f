"""How the target's tokens are chosen and when a request ends."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from specdec_bench.config.schema.ranges import (
    CONTEXT,
    CONTEXT_OR_NONE,
    SHARE,
    TOKEN_ID,
    Bounded,
    Range,
    require,
)


@dataclass(kw_only=True)
class SamplingConfig(Bounded):
    """How the target's tokens are chosen and when a request ends."""

    GROUP: ClassVar[str] = "sampling"

    max_new_tokens: Annotated[int, CONTEXT] = 128
    min_new_tokens: Annotated[int, CONTEXT_OR_NONE] = 0
    temperature: Annotated[float, Range(0, 100, "at 100 all tokens are about as likely")] = 0.0
    """0 is greedy."""
    top_p: Annotated[float, SHARE] = 1.0
    top_k: Annotated[int, TOKEN_ID] = 0
    """0 means no limit."""
    ignore_eos: bool = False
    """Generate past the end of sequence up to max_new_tokens; distorts acceptance."""
    stop_token_ids: Annotated[list[int], TOKEN_ID] = field(default_factory=list)
    """End a request as the model's own end-of-sequence tokens do."""

    def __post_init__(self) -> None:
        Bounded.__post_init__(self)
        require(
            self.min_new_tokens <= self.max_new_tokens,
            "sampling.min_new_tokens",
            self.min_new_tokens,
            f"must not exceed sampling.max_new_tokens={self.max_new_tokens}",
        )


OPTIONS: dict[str, type] = {
    "base": SamplingConfig,
}
"""The dataclass behind each option of the group."""
