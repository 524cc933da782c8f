"""Translates requests to SGLang's parameters, and its counts of a request to the project's. Does not import SGLang."""

from collections.abc import Sequence
from typing import Any

from specdec_bench.records.request import AcceptanceCounters, RequestSampling


def sampling_parameters(sampling: RequestSampling) -> dict[str, Any]:
    """Returns a request's own sampling parameters, by SGLang's names."""
    stops = list(sampling.stop_token_ids)
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or -1,
        "max_new_tokens": sampling.max_new_tokens,
        # SGLang's ignore_eos switches all stops off, and without it the checkpoint's own ones stop too.
        "ignore_eos": not stops,
        **({"stop_token_ids": stops} if stops else {}),
    }


def request_counters(
    *,
    num_verify_steps: int,
    num_accepted: int,
    histogram: Sequence[int] | None,
    draft_length: int,
    proposed_per_step: int | None,
    num_decode_steps: int | None,
) -> AcceptanceCounters:
    """Returns the scheduler's counts of one finished request.

    Args:
        num_verify_steps: 0 if the prefill ended the request.
        num_accepted: drafts.
        histogram: SGLang's list, which ends at the most drafts that one step accepted; None if there is none, as
            without a verify step.
        draft_length: K.
        proposed_per_step: drafts in every verify step; None if SGLang pads them.
        num_decode_steps: engine steps after the prefill; None if they are not known.
    """
    if histogram is not None or num_verify_steps == 0:
        histogram = [*(histogram or ()), *[0] * (draft_length + 1 - len(histogram or ()))]
    return AcceptanceCounters(
        num_verify_steps=num_verify_steps,
        num_accepted=num_accepted,
        num_proposed=None if proposed_per_step is None else proposed_per_step * num_verify_steps,
        num_decode_steps=num_decode_steps,
        histogram=None if histogram is None else tuple(histogram),
    )
