"""How often drafts are what the target wrote, computed in plain torch on greedy replies."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from smollm2.conversations import Conversations
from torch import Tensor

MAX_REPLY_TOKENS = 128
"""Only so many tokens of a reply are measured."""


class Acceptance(NamedTuple):
    """Counts of greedy drafting and verifying."""

    steps: int
    accepted_by_position: list[int]
    """Entry j: in how many steps drafts 1 to j + 1 were all accepted."""

    @property
    def rates(self) -> list[float] | None:
        """Returns the counts as shares of the steps; None without a step."""
        return [count / self.steps for count in self.accepted_by_position] if self.steps else None

    @property
    def length(self) -> float | None:
        """Returns tokens a step: the accepted drafts and one of the target's own. None without a step."""
        return 1 + sum(self.accepted_by_position) / self.steps if self.steps else None


def measure(
    drafts_of: Callable[[Tensor], Tensor], rows: Conversations, draft_length: int, batch: int, device: torch.device
) -> Acceptance:
    """Returns the counts over the greedy replies of the rows.

    Args:
        drafts_of: returns (rows, T, at least draft_length) of ids (rows, T): at token i, the drafts after it.
        rows: those with greedy replies are measured.
        draft_length: drafts a step.
        batch: rows at once.
        device: where the drafts are made.
    """
    greedy = rows[rows.is_greedy]
    steps, by_position = 0, [0] * draft_length
    for begin in range(0, len(greedy.ids), batch):
        chosen = greedy[slice(begin, begin + batch)]
        ids = torch.from_numpy(chosen.ids.astype("int64")).to(device)
        drafted = drafts_of(ids)[:, :, :draft_length].tolist()
        for tokens, row_drafts, is_reply in zip(ids.tolist(), drafted, chosen.is_reply.tolist(), strict=True):
            for first, end in replies(is_reply):
                for accepted in walk(tokens, row_drafts, first, end):
                    steps += 1
                    for position in range(accepted):
                        by_position[position] += 1
    return Acceptance(steps, by_position)


def replies(is_reply: list[bool]) -> Iterator[tuple[int, int]]:
    """Yields where each reply begins and where its measured part ends."""
    place = 0
    while place < len(is_reply):
        if not is_reply[place]:
            place += 1
            continue
        first = place
        while place < len(is_reply) and is_reply[place]:
            place += 1
        yield first, min(place, first + MAX_REPLY_TOKENS)


def walk(tokens: list[int], drafts: list[list[int]], first: int, end: int) -> Iterator[int]:
    """Yields how many drafts each step accepts of a reply tokens[first:end], whose first token is prefill's."""
    last = first
    while last < end - 1:
        accepted = 0
        while accepted < len(drafts[last]) and last + 1 + accepted < end:
            if drafts[last][accepted] != tokens[last + 1 + accepted]:
                break
            accepted += 1
        yield accepted
        last += accepted + 1
