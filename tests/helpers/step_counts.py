"""Requests given by the counts of their steps."""

from collections.abc import Sequence
from typing import Any

from specdec_bench.metrics import acceptance
from specdec_bench.metrics.acceptance import RequestAcceptance, request_acceptance
from specdec_bench.records.request import AcceptanceCounters, AcceptanceSource, RequestRecord, Step
from tests.helpers import build
from tests.helpers.trees import as_tree

Counts = tuple[int, int | None, int | None]
"""Of one chunk: tokens, proposed, accepted."""


def request(
    *decode: Counts,
    prefill: Counts = (1, 0, 0),
    source: AcceptanceSource | None = "engine_request",
    counters: AcceptanceCounters | None = None,
) -> RequestRecord:
    """A request of one prefill chunk and these later ones, 1 ns apart."""
    chunks = [prefill, *decode]
    steps = [
        Step(received_ns=i, num_tokens=tokens, num_proposed=proposed, num_accepted=accepted)
        for i, (tokens, proposed, accepted) in enumerate(chunks)
    ]
    return build.request(steps, counters=counters, acceptance_source=source)


def pool(counts: Sequence[RequestAcceptance], k: int) -> dict[str, Any]:
    found: dict[str, Any] = as_tree(acceptance.pool(counts, k))
    return found


def macro(counts: Sequence[RequestAcceptance], k: int, groups: Sequence[Any] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = as_tree(acceptance.macro(counts, k, groups))
    return found


def pooled(*records: RequestRecord, k: int = 3) -> dict[str, Any]:
    return pool([request_acceptance(record) for record in records], k)
