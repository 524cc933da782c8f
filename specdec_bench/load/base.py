"""The Load protocol, and the function that creates a load."""

import itertools
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

from specdec_bench.config.plugins import import_option
from specdec_bench.config.schema.load import LoadConfig

T = TypeVar("T")

Start = Callable[[T, int | None], Awaitable[None]]
"""Runs one conversation to its end. Takes the conversation and the time when it is due (ns of `time.perf_counter_ns`);
None means that it is due whenever it is sent."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """The part of a load that one of several clients offers, each of them a process."""

    index: int
    """Of the client, from 0."""
    num_clients: int
    begins_ns: int
    """When the load begins for all of them (`time.perf_counter_ns`)."""
    claim: Callable[[], int]
    """Returns the number of the next conversation that no client has taken yet, from 0."""

    def of(self, total: int) -> int:
        """Returns this client's part of a total that is split as evenly as possible; the first get the remainder."""
        return total // self.num_clients + (self.index < total % self.num_clients)

    def claimed(self, conversations: Iterable[T]) -> Iterator[T]:
        """Yields the conversations that this client claims, each as soon as it is asked for."""
        waiting = iter(conversations)
        num_passed = 0
        while True:
            number = self.claim()
            found = list(itertools.islice(waiting, number - num_passed, number - num_passed + 1))
            if not found:
                return
            num_passed = number + 1
            yield found[0]


class Load(Protocol):
    """Offers conversations over time.

    A load's module, `specdec_bench.load.NAME`, has `create(config, seed, num_conversations) -> Load`. Its
    dataclass has the values that size engines and name tables (`max_in_flight`, `label`), so that callers need not know
    which load it is.
    """

    num_conversations: int
    """Conversations of the measured window: as many as `create` was given, unless the load itself says how many."""

    async def run(self, conversations: Iterable[T], start: Start[T]) -> None:
        """Starts every conversation in its turn, and returns when the last has ended.

        If cancelled, it cancels the running conversations, waits for them, and starts no more.

        Raises:
            ExceptionGroup: `start` raised; the other conversations are cancelled. `start` should record a request's
                failure instead of raising it.
        """

    async def wait_for_turn(self, ended_ns: int) -> int | None:
        """Waits until a conversation's next turn is due, and returns that time as `Start` takes it.

        Args:
            ended_ns: when the previous reply ended.
        """

    def part(self, share: Share) -> "Load":
        """Returns the part of this load that one of several clients offers.

        Its `run` takes all conversations, and starts this client's. All parts together start each of them once, when
        the whole load would. A load without this method is for one client.
        """


def create(config: LoadConfig, seed: int, num_conversations: int) -> Load:
    """Returns the chosen load.

    Args:
        config: the load's options.
        seed: of the run; the same seed gives the same arrivals.
        num_conversations: of the dataset, its repeats included. A load that does not itself say how many conversations
            there are runs this many.
    """
    module = import_option("load", config.name)
    load: Load = module.create(config, seed, num_conversations)
    return load
