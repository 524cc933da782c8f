"""Open loop: conversations arrive at scheduled times, whether or not earlier ones have ended."""

import asyncio
import itertools
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator

from specdec_bench.config.schema.load import OpenLoad
from specdec_bench.load.base import Start, T

NS_PER_S = 1e9


def arrival_times(gaps: Iterable[float], rate: float, ramp_s: float) -> Iterator[float]:
    """Yields the arrival times of conversations, in seconds from the beginning.

    Let s_n be the sum of the first n gaps. Without a ramp, the n-th conversation arrives at s_n / rate. With a ramp,
    the expected number of arrivals until t is rate * t**2 / (2 * ramp) during the ramp and rate * (t - ramp / 2) after
    it; the n-th conversation arrives when this number reaches s_n.

    Args:
        gaps: between arrivals, 1 on average.
        rate: arrivals per second.
        ramp_s: seconds over which the rate grows evenly from 0.
    """
    of_ramp = rate * ramp_s / 2
    for expected in itertools.accumulate(gaps):
        if expected < of_ramp:
            yield math.sqrt(2 * ramp_s * expected / rate)
        else:
            yield expected / rate + ramp_s / 2


class Open:
    """Starts each conversation when it is due."""

    def __init__(
        self,
        config: OpenLoad,
        gaps: Callable[[], Iterable[float]],
        clock: Callable[[], int] = time.perf_counter_ns,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Takes a load.

        Args:
            config: its rate, ramp and think time.
            gaps: returns the gaps between arrivals, 1 on average, from the first on; every call returns the same ones.
            clock: tells the time, in ns.
            sleep: waits for a number of seconds, and lets other tasks run even if it is 0.
        """
        self._config = config
        self._gaps = gaps
        self._clock = clock
        self._sleep = sleep

    async def run(self, conversations: Iterable[T], start: Start[T]) -> None:
        """Runs every conversation in its own task, which is created when the conversation is due."""
        began_ns = self._clock()
        arrivals = arrival_times(self._gaps(), self._config.rate, self._config.ramp_s)
        async with asyncio.TaskGroup() as group:
            for conversation, arrival_s in zip(conversations, arrivals, strict=False):
                scheduled_ns = began_ns + round(arrival_s * NS_PER_S)
                await self._wait_until(scheduled_ns)
                group.create_task(_run(start, conversation, scheduled_ns))

    async def wait_for_turn(self, ended_ns: int) -> int:
        """Waits for the think time after the reply."""
        scheduled_ns = ended_ns + round(self._config.think_time_s * NS_PER_S)
        await self._wait_until(scheduled_ns)
        return scheduled_ns

    async def _wait_until(self, scheduled_ns: int) -> None:
        """Never returns early. Lets other tasks run even if late, so that a due one is sent before the next."""
        await self._sleep(max(scheduled_ns - self._clock(), 0) / NS_PER_S)
        while (left_ns := scheduled_ns - self._clock()) > 0:  # timers may fire a little early
            await self._sleep(left_ns / NS_PER_S)


async def _run(start: Start[T], conversation: T, scheduled_ns: int) -> None:
    await start(conversation, scheduled_ns)
