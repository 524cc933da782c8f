"""Closed loop: a fixed number of conversations in flight; the next starts when one ends."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def offer(items: Iterable[T], concurrency: int, hold: Callable[[T], Awaitable[None]]) -> None:
    """Holds every item's conversation, `concurrency` of them at a time, in order.

    Raises:
        ExceptionGroup: `hold` raised; the others are cancelled. It is expected to record a request's failure
            rather than to raise it.
    """
    waiting = iter(items)

    async def slot(first: T) -> None:
        await hold(first)
        for item in waiting:
            await hold(item)

    async with asyncio.TaskGroup() as group:
        # As many tasks as there are items to begin with, whatever the concurrency.
        for _, item in zip(range(concurrency), waiting, strict=False):
            group.create_task(slot(item))
