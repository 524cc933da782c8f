"""The closed loop: order, how many at a time, and what happens when one breaks."""

import asyncio
import random
from collections.abc import Iterator

import pytest

from specdec_bench.load.closed import Closed


class Holder:
    """Holds items for as many turns of the event loop as they say, and remembers what was in flight."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.ended: list[int] = []
        self.cancelled: list[int] = []
        self.in_flight: list[int] = []
        self.most = 0

    async def hold(self, item: tuple[int, int], scheduled_ns: int | None) -> None:
        assert scheduled_ns is None, "due whenever it is sent"
        number, turns = item
        self.started.append(number)
        self.in_flight.append(number)
        self.most = max(self.most, len(self.in_flight))
        try:
            for _ in range(turns):
                await asyncio.sleep(0)
            if turns < 0:
                raise ArithmeticError(f"item {number}")
            self.ended.append(number)
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        finally:
            self.in_flight.remove(number)


def offered(items: list[tuple[int, int]], concurrency: int) -> Holder:
    holder = Holder()
    asyncio.run(Closed(concurrency, 1000).run(items, holder.hold))
    return holder


def test_one_at_a_time_is_one_after_another() -> None:
    holder = offered([(0, 3), (1, 1), (2, 0), (3, 2)], 1)
    assert holder.started == holder.ended == [0, 1, 2, 3]
    assert holder.most == 1


def test_the_next_starts_when_one_ends_not_when_all_have() -> None:
    """While 0 is still held, the other slot works through 1, 2 and 3: no batches."""
    holder = offered([(0, 50), (1, 1), (2, 1), (3, 1)], 2)
    assert holder.started == [0, 1, 2, 3]
    assert holder.ended == [1, 2, 3, 0]
    assert holder.most == 2


def test_any_durations_start_in_order_and_fill_the_slots_without_exceeding_them() -> None:
    for seed in range(100):
        rng = random.Random(seed)
        num_items, concurrency = rng.randint(0, 30), rng.randint(1, 8)
        holder = offered([(i, rng.randint(1, 9)) for i in range(num_items)], concurrency)
        assert holder.started == list(range(num_items)), f"seed {seed}"
        assert sorted(holder.ended) == holder.started, f"seed {seed}"
        assert holder.most == min(num_items, concurrency), f"seed {seed}"


def test_an_item_is_taken_only_when_there_is_a_slot_for_it() -> None:
    """A dataset with many repeats is never laid out in full."""
    taken = 0
    holder = Holder()
    ahead: list[int] = []

    def items() -> Iterator[tuple[int, int]]:
        nonlocal taken
        for number in range(20):
            taken += 1
            ahead.append(taken - len(holder.ended))
            yield number, 2

    asyncio.run(Closed(3, 1000).run(items(), holder.hold))
    assert max(ahead) == 3


def test_no_items_is_no_work() -> None:
    assert offered([], 4).started == []


def test_an_exception_cancels_the_others_and_starts_no_more() -> None:
    holder = Holder()
    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(Closed(3, 1000).run([(0, 1000), (1, 1000), (2, -1), (3, 1)], holder.hold))
    assert [str(error) for error in caught.value.exceptions] == ["item 2"]
    assert isinstance(caught.value.exceptions[0], ArithmeticError)
    assert holder.started == [0, 1, 2]
    assert (holder.ended, sorted(holder.cancelled), holder.in_flight) == ([], [0, 1], [])


def test_a_cancelled_run_waits_for_every_conversation_to_leave() -> None:
    """Ctrl-C: each request in flight is recorded before the run is over."""
    holder = Holder()

    async def stop_soon() -> None:
        offering = asyncio.create_task(Closed(3, 1000).run([(i, 1000) for i in range(5)], holder.hold))
        for _ in range(10):
            await asyncio.sleep(0)
        offering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await offering

    asyncio.run(stop_soon())
    assert holder.started == [0, 1, 2]
    assert (sorted(holder.cancelled), holder.in_flight) == ([0, 1, 2], [])


class Tasks(Holder):
    """Remembers how many tasks there were at most."""

    most_tasks = 0

    async def hold(self, item: tuple[int, int], scheduled_ns: int | None) -> None:
        self.most_tasks = max(self.most_tasks, len(asyncio.all_tasks()))
        await super().hold(item, scheduled_ns)


@pytest.mark.parametrize("concurrency", [3, 10**6, 10**18, 10**30])
def test_there_are_never_more_tasks_than_items(concurrency: int) -> None:
    """One a conversation, and the one that offers them."""
    holder = Tasks()
    asyncio.run(Closed(concurrency, 1000).run([(0, 3), (1, 3)], holder.hold))
    assert (holder.started, holder.most_tasks) == ([0, 1], 3)


def test_items_without_end_are_taken_one_by_one() -> None:
    """`load.repeats=10**12`: nothing is laid out ahead of the slots."""
    holder = Holder()
    endless = ((number, -1 if number == 100 else 1) for number in range(10**12))
    with pytest.raises(ExceptionGroup):
        asyncio.run(Closed(4, 1000).run(endless, holder.hold))
    assert len(holder.started) <= 104
