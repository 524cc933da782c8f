"""Every metric, declared once.

This list is the source of the definitions in summary.json, the sweep's columns and their intervals, the tables' headers
and docs/metrics.md (see `declarations_page`). The command line imports it first, so it imports nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from specdec_bench.metrics.declared import UNKNOWN, Metric, Terms

if TYPE_CHECKING:
    pass

METRICS: tuple[Metric, ...] = (
    Metric(
        name="acceptance_length",
        family="acceptance",
        unit="tokens per decode step",
        formula="(output tokens - prefill token) / decode steps; 1 for plain decoding",
        better="maximize",
        path=("acceptance", "pooled", "acceptance_length"),
        header="acceptance length",
        short_header="length",
        column="",
        terms=lambda counts, _: Terms(max(counts.output_tokens - 1, 0), _known(counts.decode_steps)),
    ),
    Metric(
        name="acceptance_length_drafted",
        family="acceptance",
        unit="tokens per verify step",
        formula="1 + accepted / verify steps",
        better="maximize",
        path=("acceptance", "pooled", "acceptance_length_drafted"),
        header="acceptance length (drafted)",
        short_header="drafted",
        column="",
        terms=lambda counts, _: Terms(
            _known(counts.verify_steps) + _known(counts.accepted), _known(counts.verify_steps)
        ),
        elsewhere="vLLM: mean acceptance length",
    ),
    Metric(
        name="draft_acceptance_rate",
        family="acceptance",
        formula="accepted / proposed",
        better="maximize",
        path=("acceptance", "pooled", "draft_acceptance_rate"),
        header="acceptance rate",
        short_header="rate",
        column="",
        terms=lambda counts, _: Terms(_known(counts.accepted), _known(counts.proposed)),
    ),
    Metric(
        name="acceptance_joint",
        family="acceptance",
        formula="[i-1]: verify steps that accepted at least i drafts / verify steps, i = 1..K",
        better="maximize",
        path=("acceptance", "pooled", "acceptance_joint"),
        elsewhere="vLLM: per-position acceptance rate",
    ),
    Metric(
        name="acceptance_conditional",
        family="acceptance",
        formula="[i-1]: joint[i] / joint[i-1], joint[0] = 1",
        better="maximize",
        path=("acceptance", "pooled", "acceptance_conditional"),
        elsewhere="EAGLE: n-alpha",
    ),
    Metric(
        name="acceptance_histogram",
        family="acceptance",
        unit="verify steps",
        formula="[j]: verify steps that accepted exactly j drafts, j = 0..K",
        path=("acceptance", "pooled", "acceptance_histogram"),
    ),
    Metric(
        name="truncated_steps",
        family="acceptance",
        unit="decode steps",
        formula="decode steps that emitted fewer tokens than accepted + 1 (end of sequence or limit)",
        path=("acceptance", "pooled", "truncated_steps"),
    ),
    Metric(
        name="by_num_proposed",
        family="acceptance",
        formula="with spec.draft_length_by_batch_size: the metrics of the verify steps that proposed exactly k drafts, "
        "by k; the joint and conditional acceptance of all steps together are null",
    ),
    Metric(name="pooled", family="acceptance", formula="sums over all requests, then the formula"),
    Metric(name="macro", family="acceptance", formula="mean over requests of the per-request value"),
    Metric(
        name="macro_by_conversation",
        family="acceptance",
        formula="mean over conversations of the mean over their turns",
    ),
    Metric(
        name="ttft_ms",
        family="latency",
        unit="ms",
        formula="first content token received - request sent",
        better="minimize",
        path=("latency", "ttft_ms"),
        header="TTFT",
        column="p50",
        interval="conversations",
    ),
    Metric(
        name="tpot_ms",
        family="latency",
        unit="ms per token",
        formula="(e2e - ttft) / (output tokens - tokens in the first chunk)",
        better="minimize",
        path=("latency", "tpot_ms"),
        header="TPOT",
        column="mean",
        terms=lambda _, times: Terms(0, 0) if times.tpot_ms is None else Terms(times.tpot_ms, 1),
        elsewhere="AIPerf, GuideLLM: ITL; GuideLLM's TPOT includes the first token",
    ),
    Metric(
        name="e2e_ms",
        family="latency",
        unit="ms",
        formula="last token received - request sent",
        better="minimize",
        path=("latency", "e2e_ms"),
        header="end to end",
        column="mean",
        terms=lambda _, times: Terms(times.e2e_ms, 1),
    ),
    Metric(
        name="ttft_from_schedule_ms",
        family="latency",
        unit="ms",
        formula="first content token received - scheduled: a first turn at its arrival, a later one think_time_s after "
        "the reply before it ended; under a closed load, when it is sent",
        better="minimize",
        path=("latency", "ttft_from_schedule_ms"),
        header="TTFT since due",
        column="p50",
    ),
    Metric(
        name="e2e_from_schedule_ms",
        family="latency",
        unit="ms",
        formula="last token received - scheduled",
        better="minimize",
        path=("latency", "e2e_from_schedule_ms"),
        header="e2e since due",
        column="mean",
    ),
    Metric(
        name="step_time_ms",
        family="latency",
        unit="ms",
        formula="gap between consecutive steps as received, from the prefill's token on; TTFT is not part of it",
        better="minimize",
        path=("latency", "step_time_ms"),
        header="step time",
        column="p50",
        elsewhere="vLLM: ITL; AIPerf: inter-chunk latency",
    ),
    Metric(
        name="itl_ms",
        family="latency",
        unit="ms per token",
        formula="step_time spread over that step's tokens",
        better="minimize",
        path=("latency", "itl_ms"),
        header="ITL",
        elsewhere="vLLM's ITL is the gap between chunks: step_time_ms",
    ),
    Metric(
        name="queue_time_ms",
        family="latency",
        unit="ms",
        formula="sent - scheduled",
        better="minimize",
        path=("latency", "queue_time_ms"),
        header="sent late by",
    ),
    Metric(
        name="output_tps",
        family="throughput",
        unit="tokens per second",
        formula="output tokens / (last token received - first request sent)",
        better="maximize",
        path=("throughput", "output_tps"),
        header="tokens/s",
        column="",
        interval="repeats",
    ),
    Metric(
        name="output_tps_steady",
        family="throughput",
        unit="tokens per second",
        formula="the same from when the full concurrency was first in flight to when it last was",
        better="maximize",
        path=("throughput", "output_tps_steady"),
        header="steady",
        column="",
    ),
    Metric(
        name="steady_duration_s",
        family="throughput",
        unit="s",
        formula="from when the full concurrency was first in flight to when it last was; null under an open "
        "load, where no number in flight is the full one, and with it output_tps_steady",
        path=("throughput", "steady_duration_s"),
    ),
    Metric(
        name="output_tps_per_gpu",
        family="throughput",
        unit="tokens per second",
        formula="output_tps / accelerators used",
        better="maximize",
        path=("throughput", "output_tps_per_gpu"),
        header="per GPU",
    ),
    Metric(
        name="output_tps_per_user",
        family="throughput",
        unit="tokens per second",
        formula="sum over requests of (output tokens - tokens in the first chunk) / sum of (e2e - ttft)",
        better="maximize",
        path=("throughput", "output_tps_per_user"),
        header="per user",
        column="",
        terms=lambda _, times: Terms(times.later_tokens, times.decode_ms / 1000),
        elsewhere="AIPerf's per-user throughput is the mean of output_tps_per_request",
    ),
    Metric(
        name="output_tps_per_request",
        family="throughput",
        unit="tokens per second",
        formula="(output tokens - tokens in the first chunk) / (e2e - ttft); its mean, which a few fast "
        "replies lift, is what other tools call per-user throughput",
        better="maximize",
        path=("throughput", "output_tps_per_request"),
        header="per request",
        column="mean",
        elsewhere="AIPerf: output token throughput per user",
    ),
    Metric(
        name="request_rate",
        family="throughput",
        unit="requests per second",
        formula="finished requests / (last token received - first request sent)",
        better="maximize",
        path=("throughput", "request_rate"),
        header="requests/s",
    ),
    Metric(
        name="goodput",
        family="throughput",
        unit="requests per second",
        formula="requests that met every stated objective (slo.ttft_ms, slo.tpot_ms, slo.e2e_ms; TTFT and e2e since "
        "the request was due) / (last token received - first request sent)",
        better="maximize",
        path=("slo", "goodput"),
        header="goodput",
        column="",
    ),
    Metric(
        name="share_within_slo",
        family="throughput",
        formula="requests that met every stated objective / requests that finished or failed; a failed one met "
        "none, one without a TPOT met that objective",
        better="maximize",
        path=("slo", "share_within_slo"),
        header="within SLO",
        column="",
    ),
    Metric(
        name="energy_per_token_j",
        family="throughput",
        unit="J per token",
        formula="energy of the accelerators from before the first request was sent until after the last one ended / "
        "output tokens of finished requests; idle power is part of it; null without an NVIDIA accelerator, or over "
        "less than 1 s",
        better="minimize",
        path=("energy", "energy_per_token_j"),
        header="J/token",
        column="",
    ),
    Metric(
        name="cost_per_million_tokens",
        family="throughput",
        unit="of the price's currency",
        formula="cost.per_accelerator_hour x accelerators / (output_tps x 3600) x 1,000,000; null unless the price is "
        "given",
        better="minimize",
        path=("cost", "cost_per_million_tokens"),
        header="cost/M tokens",
        column="",
    ),
    Metric(
        name="lateness_ms",
        family="client",
        unit="ms",
        formula="how late the measuring loop was at wake-ups every 100 ms; requests waited as long to be sent, and "
        "chunks for their time unless the kernel told it",
        better="minimize",
        path=("client", "lateness_ms"),
    ),
    Metric(
        name="saturated",
        family="client",
        formula="lateness above 2 ms, at the median or on average: the client, not the engine, bends the times",
        path=("client", "saturated"),
    ),
    Metric(
        name="speedup_tpot",
        family="comparison",
        formula="mean TPOT of plain decoding / mean TPOT of the method, over conversations",
        better="maximize",
        header="speedup (TPOT)",
    ),
    Metric(
        name="speedup_e2e",
        family="comparison",
        formula="mean end-to-end time of plain decoding / that of the method, over conversations",
        better="maximize",
        header="speedup (end to end)",
    ),
    Metric(
        name="speedup_throughput",
        family="comparison",
        formula="output_tps of the method / output_tps of plain decoding",
        better="maximize",
        header="speedup (throughput)",
    ),
    Metric(
        name="ideal_speedup",
        family="comparison",
        formula="acceptance_length / (1 + K x c), c = time of one draft step / time of one target step",
        better="maximize",
        elsewhere="Leviathan et al., arXiv 2211.17192",
    ),
    Metric(
        name="share_identical",
        family="comparison",
        formula="at temperature 0: outputs that are the plain run's, token for token / outputs compared",
        better="maximize",
        header="same output",
    ),
    Metric(
        name="control_share_identical",
        family="comparison",
        formula="the same of a second plain run against the first: what rounding alone changes",
        header="control",
    ),
    Metric(
        name="aa_tokens",
        family="o200k_base",
        unit="tokens of o200k_base",
        formula="tokens of o200k_base in the text of the replies, special tokens left out",
    ),
    Metric(
        name="aa_tokens_per_token",
        family="o200k_base",
        formula="aa_tokens / output tokens of the same replies",
    ),
    Metric(
        name="aa_output_tps_per_request",
        family="o200k_base",
        unit="tokens of o200k_base per second",
        formula="(aa_tokens of the reply - those of the first chunk's text) / (e2e - ttft)",
        better="maximize",
        elsewhere="Artificial Analysis: output speed, of which it shows the median",
    ),
    Metric(
        name="aa_output_tps_per_user",
        family="o200k_base",
        unit="tokens of o200k_base per second",
        formula="sum over requests of (aa_tokens of the reply - those of the first chunk's text) / sum of (e2e - ttft)",
        better="maximize",
    ),
    Metric(
        name="aa_output_tps",
        family="o200k_base",
        unit="tokens of o200k_base per second",
        formula="aa_tokens / (last token received - first request sent)",
        better="maximize",
    ),
)
BY_NAME = {metric.name: metric for metric in METRICS}


def column_name(metric: Metric) -> str:
    """Returns the name of a metric's column in the sweep's table."""
    return f"{metric.name}_{metric.column}" if metric.column else metric.name


def _known(count: int | None) -> float:
    return UNKNOWN if count is None else count
