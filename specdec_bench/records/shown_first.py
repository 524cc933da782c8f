"""The order in which a report shows conversations, so that every run of the same prompts shows the same ones."""

from collections.abc import Iterable

from specdec_bench.records.request import Prompt

NUM_SHOWN = 24
"""Conversations whose replies are kept by token and shown in a report, at most."""


def shown_first(prompts: Iterable[Prompt]) -> list[str]:
    """Returns the ids of the prompts to show: the first of each category, then the others, in the prompts' order."""
    seen: set[str] = set()
    first: list[str] = []
    others: list[str] = []
    for prompt in prompts:
        (others if prompt.category in seen else first).append(prompt.prompt_id)
        seen.add(prompt.category)
    return [*first, *others][:NUM_SHOWN]
