"""Objectives for the latency of every request, and the search for the highest load that meets them."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from specdec_bench.config.schema.ranges import OBJECTIVE_MS, PROPER_SHARE, SEEDS, TOLERANCE, TURNS, WINDOW_S, Bounded


@dataclass(kw_only=True)
class SLO(Bounded):
    """What every request is to meet, in ms; null: no objective. Changes nothing in how a run runs."""

    GROUP: ClassVar[str] = "slo"

    ttft_ms: Annotated[float | None, OBJECTIVE_MS] = None
    """From when a request was due to its first token."""
    tpot_ms: Annotated[float | None, OBJECTIVE_MS] = None
    """Per token after the first chunk."""
    e2e_ms: Annotated[float | None, OBJECTIVE_MS] = None
    """From when a request was due to its last token."""


@dataclass(kw_only=True)
class Capacity(Bounded):
    """How `specdec-bench capacity` searches. Changes nothing in how a run runs."""

    GROUP: ClassVar[str] = "capacity"

    share: Annotated[float, PROPER_SHARE] = 0.9
    """Of the requests that have to meet the objectives."""
    tolerance: Annotated[float, TOLERANCE] = 0.05
    """The search ends when the lowest load that failed is at most 1 + this times the highest that passed."""
    num_seeds: Annotated[int, SEEDS] = 3
    """Runs of each probe: with other arrivals where the load draws them, else alike."""
    min_duration_s: Annotated[float, WINDOW_S] = 60.0
    """Seconds over which the conversations of each run arrive, at least."""
    min_requests: Annotated[int, TURNS] = 500
    """Requests of each run, at least."""
