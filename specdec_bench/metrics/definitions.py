"""The formula of every figure, stored beside the numbers, because tools use the same names for other things."""

from collections.abc import Mapping

DEFINITIONS: dict[str, str] = {
    "acceptance_length": "(output tokens - prefill token) / decode steps; 1 for plain decoding",
    "acceptance_length_drafted": "1 + accepted / verify steps",
    "draft_acceptance_rate": "accepted / proposed",
    "acceptance_joint": "[i-1]: verify steps that accepted at least i drafts / verify steps, i = 1..K",
    "acceptance_conditional": "[i-1]: joint[i] / joint[i-1], joint[0] = 1",
    "acceptance_histogram": "[j]: verify steps that accepted exactly j drafts, j = 0..K",
    "truncated_steps": "decode steps that emitted fewer tokens than accepted + 1 (end of sequence or limit)",
    "pooled": "sums over all requests, then the formula",
    "macro": "mean over requests of the per-request value",
    "macro_by_conversation": "mean over conversations of the mean over their turns",
    "ttft_ms": "first content token received - request sent",
    "e2e_ms": "last token received - request sent",
    "tpot_ms": "(e2e - ttft) / (output tokens - tokens in the first chunk)",
    "step_time_ms": "gap between consecutive steps as received, from the prefill's token on; TTFT is not part of it",
    "itl_ms": "step_time spread over that step's tokens",
    "queue_time_ms": "sent - scheduled",
    "ttft_from_schedule_ms": "first content token received - scheduled: a first turn at its arrival, a later one "
    "think_time_s after the reply before it ended; under a closed load, when it is sent",
    "e2e_from_schedule_ms": "last token received - scheduled",
    "output_tps": "output tokens / (last token received - first request sent)",
    "output_tps_steady": "the same from when the full concurrency was first in flight to when it last was",
    "steady_duration_s": "from when the full concurrency was first in flight to when it last was; null under an open "
    "load, where no number in flight is the full one, and with it output_tps_steady",
    "output_tps_per_gpu": "output_tps / accelerators used",
    "output_tps_per_user": "sum over requests of (output tokens - tokens in the first chunk) / sum of (e2e - ttft)",
    "output_tps_per_request": "(output tokens - tokens in the first chunk) / (e2e - ttft); its mean, which a few fast "
    "replies lift, is what other tools call per-user throughput",
    "request_rate": "finished requests / (last token received - first request sent)",
    "lateness_ms": "how late the measuring loop was at wake-ups every 100 ms; chunks waited as long for their time",
    "saturated": "median lateness above 2 ms: the client, not the engine, bends the times",
}


def changed_definitions(stored: Mapping[str, str]) -> dict[str, str]:
    """Returns the metrics that a summary computed by another formula than the one of now: its formula by name."""
    return {name: formula for name, formula in stored.items() if DEFINITIONS.get(name, formula) != formula}
