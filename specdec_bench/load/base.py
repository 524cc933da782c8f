"""The Load protocol, and the function that creates a load."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeVar

from specdec_bench.config.plugins import import_option
from specdec_bench.config.schema.load import LoadConfig

T = TypeVar("T")

Start = Callable[[T, int | None], Awaitable[None]]
"""Runs one conversation to its end. Takes the conversation and the time when it is due (ns of `time.perf_counter_ns`);
None means that it is due whenever it is sent."""


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
