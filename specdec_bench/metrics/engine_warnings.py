"""Warnings on what the engine, and the network before it, made of a run."""

from msgspec import UNSET

from specdec_bench.metrics.timing import MAX_JOINED_SHARE, Timings
from specdec_bench.records.manifest import Manifest, label_of_load
from specdec_bench.records.options import integer_option
from specdec_bench.records.summary import Acceptance


def engine_warnings(manifest: Manifest, preemptions: dict[str, int | None], num_finished: int) -> list[str]:
    """Returns warnings on settings that the engine changed, on preemptions, and on a concurrency too high to reach."""
    load, imported = label_of_load(manifest), manifest.imported
    warnings = [] if imported is None else [f"IMPORTED from {imported.tool}: not measured by this project"]
    warnings += [] if imported is None else imported.notes
    warnings += [
        f"{difference.name}: {difference.asked} was asked for, the engine has {difference.got}"
        for difference in manifest.engine.differences or ()
    ]
    warnings += manifest.engine.notes or ()
    if claimed := manifest.engine.claimed:
        warnings.append(f"CLAIMED: the server does not tell {', '.join(claimed)}; they are what the experiment says")
    if preemptions["preempted"]:
        warnings.append(
            f"PREEMPTED: {preemptions['preempted']} of {num_finished} requests, {preemptions['preemptions']} times in "
            "all: the KV cache was full, and step times and latencies hold the waits; give it more memory, or lower "
            f"load.{load.axis}"
        )
    num_prompts, num_repeats = manifest.dataset.num_prompts, integer_option(manifest.config, "load", "repeats") or 1
    if num_prompts is not UNSET and (load.max_in_flight or 0) > (most := num_prompts * num_repeats):
        warnings.append(
            f"load.{load.axis}={load.value}: there are {most} conversations, so that never more were in "
            "flight; output_tps_steady, which needs them all in flight, is not defined"
        )
    return warnings


def totals_warnings(acceptance: Acceptance, num_cut_off: int) -> list[str]:
    """Returns a warning where requests that were cut off keep the engine's totals from giving a length."""
    if acceptance.source != "engine_total" or acceptance.pooled.acceptance_length is not None or not num_cut_off:
        return []
    requests = "1 request" if num_cut_off == 1 else f"{num_cut_off} requests"
    return [
        f"CUT OFF: {requests} had tokens and did not finish, and the engine's totals hold their steps: the acceptance "
        "length, which has the tokens of finished requests, is not known"
    ]


def network_warnings(timings: Timings) -> list[str]:
    """Returns a warning where so many chunks arrived together that no step times are given."""
    share = timings.joined_share or 0
    if share <= MAX_JOINED_SHARE:
        return []
    return [
        f"JOINED: {share:.1%} of the chunks were read together with the one before, because a proxy or a network "
        "joined them or this client was late: step times and inter-token latencies are not known"
    ]
