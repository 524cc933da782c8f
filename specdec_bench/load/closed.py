"""Closed loop: a fixed number of conversations in flight; the next starts when one ends."""

import asyncio
from collections.abc import Iterable

from specdec_bench.config.schema.load import ClosedLoad
from specdec_bench.load.base import Share, Start, T


def create(config: ClosedLoad, seed: int, num_conversations: int) -> "Closed":
    """Returns the load. It draws no random numbers."""
    return Closed(config.concurrency, num_conversations)


class Closed:
    """Runs `concurrency` conversations at a time, in order."""

    def __init__(self, concurrency: int, num_conversations: int, share: Share | None = None) -> None:
        self.num_conversations = num_conversations
        self._concurrency = min(concurrency, num_conversations)  # of the warm-up too
        self._share = share

    def part(self, share: Share) -> "Closed":
        """Returns a client's slots. Whichever client has a free one takes the next conversation."""
        return Closed(share.of(self._concurrency), self.num_conversations, share)

    async def run(self, conversations: Iterable[T], start: Start[T]) -> None:
        """Runs every conversation; each is due as soon as a slot is free."""
        waiting = iter(conversations) if self._share is None else self._share.claimed(conversations)

        async def slot(first: T) -> None:
            await start(first, None)
            for conversation in waiting:
                await start(conversation, None)

        async with asyncio.TaskGroup() as group:
            # Create no more tasks than there are conversations, even if the concurrency is higher.
            for _, conversation in zip(range(self._concurrency), waiting, strict=False):
                group.create_task(slot(conversation))

    async def wait_for_turn(self, ended_ns: int) -> None:
        """Returns at once: the conversation keeps its slot."""
