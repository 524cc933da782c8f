"""Open loop: conversations arrive at scheduled times, whether or not earlier ones have ended."""

import asyncio
import copy
import itertools
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator

from specdec_bench.config.schema.load import OpenLoad
from specdec_bench.load.base import Share, Start, T

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
    """Starts each conversation when it is due, or as soon after as `max_in_flight` allows."""

    def __init__(
        self,
        config: OpenLoad,
        arrivals: Callable[[], Iterable[float]],
        num_conversations: int,
        clock: Callable[[], int] = time.perf_counter_ns,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Takes a load.

        Args:
            config: its think time and limits.
            arrivals: returns the arrival times in seconds from the beginning, in order; every call returns the same.
            num_conversations: as many, unless `config` says how many.
            clock: tells the time, in ns.
            sleep: waits for a number of seconds, and lets other tasks run even if it is 0.
        """
        self.num_conversations = _num_conversations(config, arrivals, num_conversations)
        self._config = config
        self._arrivals = arrivals
        self._clock = clock
        self._sleep = sleep
        self._slots: asyncio.Semaphore | None = None
        self._share: Share | None = None

    def part(self, share: Share) -> "Open":
        """Returns every n-th arrival, at the time when the whole load has it, and a client's slots."""
        part = copy.copy(self)
        part._share = share
        return part

    async def run(self, conversations: Iterable[T], start: Start[T]) -> None:
        """Runs every conversation in its own task, which is created when the conversation is due."""
        limit, share = self._config.max_in_flight, self._share
        arrivals = zip(conversations, self._arrivals(), strict=False)
        own: Iterable[tuple[T, float]] = arrivals
        if share is not None:
            limit = None if limit is None else share.of(limit)
            own = itertools.islice(arrivals, share.index, None, share.num_clients)
        self._slots = None if limit is None else asyncio.Semaphore(limit)
        began_ns = self._clock() if share is None else share.begins_ns
        async with asyncio.TaskGroup() as group:
            for conversation, arrival_s in own:
                scheduled_ns = began_ns + round(arrival_s * NS_PER_S)
                await self._wait_until(scheduled_ns)
                group.create_task(self._run_conversation(start, conversation, scheduled_ns))

    async def _run_conversation(self, start: Start[T], conversation: T, scheduled_ns: int) -> None:
        """Runs a conversation in a slot, if these are limited. Those that wait for a slot get one in their order."""
        if self._slots is not None:
            await self._slots.acquire()
        try:
            await start(conversation, scheduled_ns)
        finally:
            if self._slots is not None:
                self._slots.release()

    async def wait_for_turn(self, ended_ns: int) -> int:
        """Waits for the think time after the reply, in which the conversation holds no slot, and for a slot."""
        scheduled_ns = ended_ns + round(self._config.think_time_s * NS_PER_S)
        if self._slots is not None:
            # If this is cancelled, `_run_conversation` releases the slot once more, but then nobody is started.
            self._slots.release()
        await self._wait_until(scheduled_ns)
        if self._slots is not None:
            await self._slots.acquire()
        return scheduled_ns

    async def _wait_until(self, scheduled_ns: int) -> None:
        """Never returns early. Lets other tasks run even if late, so that a due one is sent before the next."""
        await self._sleep(max(scheduled_ns - self._clock(), 0) / NS_PER_S)
        while (left_ns := scheduled_ns - self._clock()) > 0:  # timers may fire a little early
            await self._sleep(left_ns / NS_PER_S)


def _num_conversations(config: OpenLoad, arrivals: Callable[[], Iterable[float]], num_conversations: int) -> int:
    """Returns how many conversations arrive: those of the configuration, within its duration, or else as many."""
    if config.num_conversations is not None:
        return config.num_conversations
    if (duration_s := config.duration_s) is not None:
        return sum(1 for _ in itertools.takewhile(lambda arrival_s: arrival_s <= duration_s, arrivals()))
    return num_conversations
