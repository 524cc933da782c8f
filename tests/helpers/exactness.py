"""What the transformers engine is compared with: pairs of models, and the reference's outcomes on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.helpers.draft_and_verify import (
    Ending,
    GreedyModel,
    Outcome,
    decode,
    draft_model,
    prompt_lookup,
    propose_nothing,
)
from tests.helpers.engine_runs import NGRAM_MAX, EnginePool, Result, raw_model

CELLS = [(method, k) for method in ("ngram", "draft_model") for k in (1, 3, 5)]

METHODS = [("none", 0), ("ngram", 3), ("draft_model", 3)]

SAMPLING = {"max_new_tokens": 64}

VOCABULARY = 64
"""Of the random models, which say a stop token and reject a draft much more often than the bundled ones."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A target, its draft, and prompts for them."""

    target: str
    draft: str
    prompts: list[list[int]]
    stops: tuple[int, ...]


class Truths:
    """The reference's outcomes. One memory of next tokens for each model serves all cells."""

    def __init__(self) -> None:
        self._models: dict[tuple[str, str], GreedyModel] = {}

    def model(self, path: str, dtype: str) -> GreedyModel:
        if (path, dtype) not in self._models:
            self._models[path, dtype] = GreedyModel(raw_model(path, dtype))
        return self._models[path, dtype]

    def outcome(
        self, pair: Pair, method: str, k: int, prompt: Sequence[int], ending: Ending, dtype: str = "float64"
    ) -> Outcome:
        propose = propose_nothing
        if method == "ngram":
            propose = prompt_lookup(k, NGRAM_MAX, ending)
        elif method == "draft_model":
            propose = draft_model(self.model(pair.draft, dtype), ending)
        return decode(self.model(pair.target, dtype), prompt, ending, k, propose)


def assert_equal(result: Result, truth: Outcome, ending: Ending, k: int) -> None:
    """Asserts that the engine gave what the reference gives: tokens, each step's counts, histogram, reason."""
    assert result.token_ids == truth.token_ids
    assert result.steps == [step.counts for step in truth.steps]
    assert result.histogram(k) == truth.histogram(k)
    assert len(result.steps) - 1 == truth.num_decode_steps
    assert result.finish_reason == ("stop" if truth.token_ids[-1] in ending.stops else "length")


def engine_of(engines: EnginePool, pair: Pair, method: str, k: int) -> Any:
    return engines.get(method, k, "float64", pair.target, pair.draft)
