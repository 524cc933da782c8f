"""Rates in tokens of o200k_base, which Artificial Analysis and the NVIDIA reference report."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from specdec_bench.metrics.declarations import METRICS
from specdec_bench.metrics.distribution import describe
from specdec_bench.metrics.timing import NS_PER_S, request_times
from specdec_bench.records.aa import AATiming
from specdec_bench.records.request import RequestRecord

ENCODING = "o200k_base"
DEFINITIONS = {metric.name: metric.formula for metric in METRICS if metric.family == "o200k_base"}


class ReplyText(NamedTuple):
    """A reply as text."""

    text: str
    first_chunk_length: int | None
    """Characters that the first chunk's tokens add; None where this is not known."""


def aa_timing(
    run_id: str,
    records: Iterable[RequestRecord],
    replies: Mapping[str, ReplyText],
    count_tokens: Callable[[str], int],
) -> AATiming:
    """Returns the rates of a run's finished requests.

    Args:
        run_id: the run's.
        records: its requests.
        replies: by request id.
        count_tokens: how many tokens of the encoding a text has.
    """
    output_tokens = aa_tokens = later_tokens = num_without_speed = num_requests = 0
    decode_s = 0.0
    speeds, sent_ns, last_ns = [], [], []
    for record in records:
        reply, times = replies.get(record.request_id), request_times(record)
        if record.phase != "measure" or record.error is not None or reply is None or times is None:
            continue
        assert record.sent_ns is not None  # it has times
        num_tokens = count_tokens(reply.text)
        num_requests += 1
        output_tokens += record.num_output_tokens
        aa_tokens += num_tokens
        sent_ns.append(record.sent_ns)
        last_ns.append(max(step.received_ns for step in record.steps if step.num_tokens > 0))
        if reply.first_chunk_length is None or not times.decode_ms:
            num_without_speed += 1
            continue
        later = num_tokens - count_tokens(reply.text[: reply.first_chunk_length])
        later_tokens += later
        decode_s += times.decode_ms / 1000
        speeds.append(later / (times.decode_ms / 1000))
    window_s = (max(last_ns) - min(sent_ns)) / NS_PER_S if sent_ns else 0.0
    return AATiming(
        run_id=run_id,
        encoding=ENCODING,
        num_requests=num_requests,
        num_without_speed=num_without_speed,
        output_tokens=output_tokens,
        aa_tokens=aa_tokens,
        aa_tokens_per_token=aa_tokens / output_tokens if output_tokens else None,
        aa_output_tps=aa_tokens / window_s if window_s else None,
        aa_output_tps_per_user=later_tokens / decode_s if decode_s else None,
        aa_output_tps_per_request=describe(speeds),
        definitions=DEFINITIONS,
    )
