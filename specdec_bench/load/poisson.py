"""Poisson arrivals: the gaps between them are exponential, as those of many users who know nothing of one another."""

import random
from collections.abc import Iterator

from specdec_bench.config.schema.load import PoissonLoad
from specdec_bench.load.open import Open


def create(config: PoissonLoad, seed: int, num_conversations: int) -> Open:
    """Returns the load: the same arrivals for the same seed, drawn one by one."""
    return Open(config, lambda: gaps(seed))


def gaps(seed: int) -> Iterator[float]:
    """Yields gaps without end, 1 on average. Another rate stretches the same ones."""
    drawn = random.Random(seed)
    while True:
        yield drawn.expovariate(1.0)
