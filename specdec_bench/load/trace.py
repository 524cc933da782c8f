"""Arrivals at the times of a trace."""

from specdec_bench.config import trace_file
from specdec_bench.config.schema.load import TraceLoad
from specdec_bench.load.open import Open


def create(config: TraceLoad, seed: int, num_conversations: int) -> Open:
    """Returns the load. It draws no random numbers, and has as many conversations as the trace has arrivals."""
    assert config.arrivals is not None
    arrivals_s = [time_s / config.speed for time_s in trace_file.parse(config.arrivals)]
    return Open(config, lambda: arrivals_s, len(arrivals_s))
