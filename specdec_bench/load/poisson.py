"""Poisson arrivals: the gaps between them are exponential, like those of many independent users."""

import random
from collections.abc import Iterator

from specdec_bench.config.schema.load import PoissonLoad
from specdec_bench.load.open import Open


def create(config: PoissonLoad, seed: int, num_conversations: int) -> Open:
    """Returns the load. The same seed gives the same arrivals, which are drawn one by one."""
    return Open(config, lambda: gaps(seed))


def gaps(seed: int) -> Iterator[float]:
    """Yields endless gaps, 1 on average. Another rate scales the same gaps."""
    drawn = random.Random(seed)
    while True:
        yield drawn.expovariate(1.0)
