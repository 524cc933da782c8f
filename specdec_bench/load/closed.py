"""Closed loop: a fixed number of conversations in flight; the next starts when one ends."""

import asyncio
from collections.abc import Iterable

from specdec_bench.config.schema.load import ClosedLoad
from specdec_bench.load.base import Start, T


def create(config: ClosedLoad, seed: int, num_conversations: int) -> "Closed":
    """Returns the load. It draws no random numbers."""
    return Closed(config.concurrency, num_conversations)


class Closed:
    """Runs `concurrency` conversations at a time, in order."""

    def __init__(self, concurrency: int, num_conversations: int) -> None:
        self.num_conversations = num_conversations
        self._concurrency = min(concurrency, num_conversations)  # of the warm-up too

    async def run(self, conversations: Iterable[T], start: Start[T]) -> None:
        """Runs every conversation; each is due as soon as a slot is free."""
        waiting = iter(conversations)

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
