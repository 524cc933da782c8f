"""How many processes send the requests of a load."""

import math
import os

from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.config.schema.ranges import CLIENTS

MOST_IN_FLIGHT = 256
"""Requests in flight that one client follows at engine steps of 10 ms without being late."""
MOST_PER_S = 25_600
"""Events that arrive at one client in a second then."""


def num_clients(config: ExperimentConfig, num_turns: float, num_cores: int | None = None) -> int:
    """Returns `load.clients`, or the number that auto stands for.

    Let n be the most requests in flight. Let e be the most events per second that a rate of r conversations brings:
    r x turns x `sampling.max_new_tokens`, for no event is without a token. auto is the smaller of ceil(n / 256) and
    ceil(e / 25,600), of those that are known; at least 1, and at most one less than there are cores.

    Args:
        config: the experiment.
        num_turns: of a conversation, on average.
        num_cores: which this process may use; None asks the machine.
    """
    load = config.load
    if load.num_clients is not None:
        return load.num_clients
    needed = []
    if load.max_in_flight is not None:
        needed.append(math.ceil(load.max_in_flight / MOST_IN_FLIGHT))
    if load.conversations_per_s is not None:
        events_per_s = load.conversations_per_s * num_turns * config.sampling.max_new_tokens
        needed.append(math.ceil(events_per_s / MOST_PER_S))
    if num_cores is None:
        num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(*needed, num_cores - 1, int(CLIENTS.most)))
