"""How far a client's times and counts of requests lie from what the server states."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np


class Sent(msgspec.Struct, kw_only=True):
    """A line of the server's statement. Times are of CLOCK_MONOTONIC."""

    number: int
    x_request_id: str | None
    received_ns: int
    due_ns: list[int]
    sent_ns: list[int]
    per_step: list[int]
    """Drafts that each decode step accepted."""
    is_complete: bool


class Seen(NamedTuple):
    """A request as a client recorded it."""

    key: str
    """What `keys` of the server's statement hold too."""
    ttft_ms: float
    gaps_ms: Sequence[float] | None
    """From one event to the next; None if the client does not keep them."""
    per_step: Sequence[int] | None
    """Drafts that each decode step accepted; None if the client does not keep them."""


class Errors(NamedTuple):
    """A client's run against the server's statement."""

    ttft_ms: list[float]
    """Absolute errors, one a request, in the order in which the server read them."""
    gaps_ms: list[float] | None
    """Absolute errors, one a decode step; None if the client keeps no such times."""
    num_other_events: int
    """Requests whose number of events is not the server's: their steps are in no error."""
    counts_are_exact: bool | None
    """Whether what each step accepted is right, in all requests; None if the client does not tell."""
    num_events: int
    began_ns: int
    ended_ns: int
    """From the first request to the last event, as the server states them."""


def read_statement(path: Path) -> list[Sent]:
    """Returns what the server states, request by request."""
    return msgspec.json.Decoder(Sent).decode_lines(path.read_bytes())


def keys(statement: Iterable[Sent]) -> dict[str, Sent]:
    """Returns the requests by number, and by the id that the client gave; of those with the same id, the last."""
    found = {f"#{sent.number}": sent for sent in statement}
    return found | {sent.x_request_id: sent for sent in found.values() if sent.x_request_id is not None}


def compare(seen: Sequence[Seen], statement: Mapping[str, Sent]) -> Errors:
    """Returns the errors of a client's records.

    The true TTFT is from when the server had read the request to when it wrote the first event, the true step times
    are those between its writes.

    Raises:
        ValueError: a record is of no request that the server answered to the end, or two are of the same.
    """
    pairs = []
    for one in seen:
        sent = statement.get(one.key)
        if sent is None or not sent.is_complete:
            raise ValueError(f"the client has a request {one.key!r} that the server did not answer to the end")
        pairs.append((one, sent))
    pairs.sort(key=lambda pair: pair[1].received_ns)
    if len({sent.number for _, sent in pairs}) < len(pairs) or not pairs:
        raise ValueError("the client has one request twice, or none at all")
    ttft_ms, gaps_ms, num_other = [], [], 0
    for one, sent in pairs:
        ttft_ms.append(abs(one.ttft_ms - (sent.sent_ns[0] - sent.received_ns) / 1e6))
        true_ms = [(later - earlier) / 1e6 for earlier, later in itertools.pairwise(sent.sent_ns)]
        if one.gaps_ms is not None and len(one.gaps_ms) == len(true_ms):
            gaps_ms += [abs(told - true) for told, true in zip(one.gaps_ms, true_ms, strict=True)]
        else:
            num_other += one.gaps_ms is not None
    has_gaps = any(one.gaps_ms is not None for one, _ in pairs)
    tells = any(one.per_step is not None for one, _ in pairs)
    return Errors(
        ttft_ms=ttft_ms,
        gaps_ms=gaps_ms if has_gaps else None,
        num_other_events=num_other,
        counts_are_exact=all(list(one.per_step or ()) == sent.per_step for one, sent in pairs) if tells else None,
        num_events=sum(len(sent.sent_ns) for _, sent in pairs),
        began_ns=min(sent.received_ns for _, sent in pairs),
        ended_ns=max(sent.sent_ns[-1] for _, sent in pairs),
    )


def lateness_ms(statement: Iterable[Sent]) -> list[float]:
    """Returns by how much the server was late, event by event."""
    return [
        (sent_ns - due_ns) / 1e6
        for sent in statement
        for due_ns, sent_ns in zip(sent.due_ns, sent.sent_ns, strict=True)
    ]


def p50_and_p99(values: Sequence[float] | None) -> tuple[float, float] | None:
    """Returns the median and the 99th percentile, interpolated linearly; None without values."""
    if not values:
        return None
    p50, p99 = np.percentile(values, (50, 99))
    return float(p50), float(p99)


def largest_load_below(limit_ms: float, p50_ms: Mapping[int, Sequence[float]]) -> int | None:
    """Returns the largest load at which, as at all smaller ones, every median error is below the limit.

    Args:
        limit_ms: the limit.
        p50_ms: the median errors by load.
    """
    largest = None
    for load in sorted(p50_ms):
        if max(p50_ms[load]) >= limit_ms:
            break
        largest = load
    return largest
