"""Poisson arrivals: the gaps between them are exponential, like those of many independent users."""

import random
from collections.abc import Iterator

from specdec_bench.config.schema.load import PoissonLoad
from specdec_bench.load.open import Open, arrival_times


def create(config: PoissonLoad, seed: int, num_conversations: int) -> Open:
    """Returns the load. The same seed gives the same arrivals, which are drawn one by one."""
    arrival_seed = seed if config.arrival_seed is None else config.arrival_seed
    return Open(config, lambda: arrival_times(gaps(arrival_seed), config.rate, config.ramp_s), num_conversations)


def gaps(seed: int) -> Iterator[float]:
    """Yields endless gaps, 1 on average. Another rate scales the same gaps."""
    drawn = random.Random(seed)
    while True:
        yield drawn.expovariate(1.0)
