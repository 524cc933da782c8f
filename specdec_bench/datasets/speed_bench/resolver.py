"""Resolves SPEED-Bench's placeholders to prompts made of other sets' rows, by the rules of NVIDIA's own resolver.

`sources` says where each set is and loads it, `turns` makes one row's turns (one pure function a set), `wording` has
the sentences that stand around what is taken from a set, `rules` ties them together.

Source of the rules: NVIDIA/Model-Optimizer, examples/specdec_bench (datasets/speed.py), read at 33bfa8b.
"""

from collections.abc import Callable, Iterable
from typing import Any

from specdec_bench.datasets.rows import shown
from specdec_bench.datasets.speed_bench.rules import RULES, Rule
from specdec_bench.datasets.speed_bench.sources import Need
from specdec_bench.datasets.speed_bench.turns import PLACEHOLDER
from specdec_bench.errors import DatasetError, abbreviated


def is_placeholder(row: dict[str, Any]) -> bool:
    """Whether a turn of the row is not the user's text, but a note that it must be fetched."""
    turns = row.get("turns")
    return isinstance(turns, list) and any(isinstance(turn, str) and PLACEHOLDER in turn for turn in turns)


class Resolver:
    """Returns the turns of a split's placeholders. Ask for them in the file's order: HLE's are drawn."""

    def __init__(
        self,
        rows: Iterable[dict[str, Any]],
        num_tokens: int | None,
        on_load: Callable[[str], None] = lambda _: None,
        load: Callable[[Need], Any] = lambda need: need.load(),
    ) -> None:
        """Loads everything that the placeholders among the rows need.

        Args:
            rows: of the split.
            num_tokens: the length of the split's prompts in tokens of o200k_base; None for the qualitative split.
            on_load: is told what is being loaded.
            load: loads it.

        Raises:
            DatasetError: naming everything that cannot be fetched, or the rows that have no rule.
        """
        self._num_tokens = num_tokens
        needed: dict[Need, int] = {}
        refused: list[str] = []
        for row in filter(is_placeholder, rows):
            try:
                needs = _rule(row).needs(row, num_tokens)
            except (LookupError, TypeError, AttributeError):
                refused.append(str(row.get("question_id")))
                continue
            for need in needs:
                needed[need] = needed.get(need, 0) + 1
        if refused:
            raise DatasetError(
                f"{len(refused)} placeholders belong to sets that cannot be resolved, by source and src_id: "
                f"{abbreviated(refused)}; the sets that can be are {', '.join(RULES)}"
            )
        self._loaded: dict[Need, Any] = {}
        missing: list[str] = []
        for need, num_rows in needed.items():
            on_load(need.name)
            try:
                self._loaded[need] = load(need)
            except DatasetError as error:
                missing.append(f"{error} (for {num_rows} prompts)")
        if missing:
            raise DatasetError(
                f"{len(missing)} of the {len(needed)} sources of the placeholders are missing: {'; '.join(missing)}; "
                "run prepare where they are available, and copy the file that it writes"
            )

    def versions(self) -> dict[str, str]:
        """Returns the prompts' sources: each one's name, and its revision or sha256."""
        return {need.name: need.version() for need in sorted(self._loaded, key=lambda need: need.name)}

    def turns(self, row: dict[str, Any]) -> list[str]:
        """Returns the turns that a placeholder stands for.

        Raises:
            ValueError: its set does not hold what the row names.
        """
        rule = _rule(row)
        found = [self._loaded[need] for need in rule.needs(row, self._num_tokens)]
        try:
            return rule.turns(row, self._num_tokens, *found)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"src_id={shown(row.get('src_id'))}: cannot be made from {row.get('source')} "
                f"({type(error).__name__}: {error})"
            ) from None


def _rule(row: dict[str, Any]) -> Rule:
    """Returns the rule for the row's source.

    Raises:
        LookupError: there is none.
    """
    for marker, rule in RULES.items():
        if marker in row["source"]:
            return rule
    raise LookupError(row["source"])
