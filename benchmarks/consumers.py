"""How others read an engine's stream, for benchmarks to compare with."""

import time
from collections.abc import AsyncIterator
from typing import Any


async def cumulative(outputs: AsyncIterator[Any]) -> tuple[list[float], list[int]]:
    """Takes in cumulative outputs, keeping a time, a length and a slice of the list for every chunk.

    Returns:
        Each chunk's time in seconds and its number of new tokens.
    """
    times: list[float] = []
    sizes: list[int] = []
    pieces: list[list[int]] = []
    seen = 0
    async for output in outputs:
        token_ids = output.outputs[0].token_ids
        times.append(time.perf_counter())
        sizes.append(len(token_ids) - seen)
        pieces.append(list(token_ids[seen:]))
        seen = len(token_ids)
    return times, sizes
