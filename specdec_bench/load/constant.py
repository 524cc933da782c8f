"""Arrivals at equal gaps."""

import itertools

from specdec_bench.config.schema.load import ConstantLoad
from specdec_bench.load.open import Open, arrival_times


def create(config: ConstantLoad, seed: int, num_conversations: int) -> Open:
    """Returns the load. It draws no random numbers; the first conversation arrives after one gap."""
    return Open(config, lambda: arrival_times(itertools.repeat(1.0), config.rate, config.ramp_s), num_conversations)
