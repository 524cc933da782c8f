"""The Load protocol, and where a load is found."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeVar

from specdec_bench.config.plugins import import_option
from specdec_bench.config.schema.load import LoadConfig

T = TypeVar("T")

Start = Callable[[T, int | None], Awaitable[None]]
"""Runs one conversation to its end. Takes the conversation and when it is due (ns of `time.perf_counter_ns`), which is
None where it is due whenever it is sent."""


class Load(Protocol):
    """Offers conversations over time.

    A load's module, `specdec_bench.load.NAME`, has `create(config, seed, num_conversations) -> Load`. What sizes
    engines and names tables (`max_in_flight`, `label`) is in its dataclass, so that nobody needs to know which it is.
    """

    async def run(self, conversations: Iterable[T], start: Start[T]) -> None:
        """Runs every conversation, each started in its turn, and returns when the last has ended.

        Cancelled, it cancels those that are running, waits for them, and starts no more.

        Raises:
            ExceptionGroup: `start` raised; the others are cancelled. It is expected to record a request's failure
                rather than to raise it.
        """

    async def wait_for_turn(self, ended_ns: int) -> int | None:
        """Waits until a conversation's next turn is due, and returns when that is, as `Start` takes it.

        Args:
            ended_ns: when the reply before it ended.
        """


def create(config: LoadConfig, seed: int, num_conversations: int) -> Load:
    """Returns the chosen load.

    Args:
        config: the load's options.
        seed: of the run; the same seed gives the same arrivals.
        num_conversations: of the run; no more are ever in flight, those of the warm-up included.
    """
    module = import_option("load", config.name)
    load: Load = module.create(config, seed, num_conversations)
    return load
