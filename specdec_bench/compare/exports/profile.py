"""`speculation_profile.json`: how often the drafts of one cell are accepted at each position.

The format is a proposal of NVIDIA's Model-Optimizer (pull requests 2247, 2313, 2315 and 2316) that may still change.
"""

import json
from pathlib import PurePath

from specdec_bench.compare.exports.measured import LENGTH, MeasuredAcceptance
from specdec_bench.metrics.definitions import DEFINITIONS
from specdec_bench.records.json_types import Json
from specdec_bench.records.labels import run_labels
from specdec_bench.records.manifest import label_of_load
from specdec_bench.records.summary import PooledAcceptance

PROFILE_VERSION = "specdec_bench/1"
"""Of this project's profile, because the proposal has no final version."""


def speculation_profile(measured: MeasuredAcceptance) -> str:
    """Returns the profile of a cell as JSON. All rates are over verify steps, as in summary.json.

    - `marginal_accept_rates[i-1]`: verify steps that accepted at least i drafts / verify steps, i = 1..K.
    - `conditional_accept_rates[i-1]`: `marginal[i] / marginal[i-1]`, with marginal[0] = 1; null where that is 0.
    - `mean_accept_length`: 1 + accepted / verify steps = 1 + the sum of `marginal_accept_rates`.
    - `mean_accept_length_per_request`: the mean of the same over requests.
    - `accept_length_by_k`: the length at the K that was measured. Nothing is extrapolated.
    - `acceptance_length_histogram[length]`: verify steps of that length, which is 1 + accepted drafts.

    Raises:
        ArchiveInputError: the acceptance at each position is unknown.
    """
    histogram, pooled, length = measured.histogram, measured.pooled, measured.length
    marginal = [rate for rate in pooled.acceptance_joint or () if rate is not None]
    labels = run_labels(measured.manifest)
    tree: dict[str, Json] = {
        "schema_version": PROFILE_VERSION,
        "measured": measured.manifest.synthetic is None,
        "synthetic": measured.manifest.synthetic,
        "method": labels.spec,
        "draft_checkpoint": _checkpoint(measured, "draft"),
        "target_model": _checkpoint(measured, "target") or {"name": labels.model},
        "num_speculative_tokens": measured.draft_length,
        "conditional_accept_rates": list(pooled.acceptance_conditional or ()),
        "marginal_accept_rates": list(marginal),
        "mean_accept_length": length.value,
        "mean_accept_length_interval_95": [length.low, length.high],
        "mean_accept_length_per_request": measured.length_per_request,
        "mean_accept_length_definition": f"{DEFINITIONS[LENGTH]}; the bonus token of the target is counted",
        "accept_length_model": "measured_per_k",
        "accept_length_by_k": {str(measured.draft_length): length.value},
        "acceptance_length_histogram": {str(accepted + 1): steps for accepted, steps in enumerate(histogram)},
        "per_category": {name: _of_category(found) for name, found in measured.by_category.items()} or None,
        "measurement_conditions": _conditions(measured),
        "validation": _validation(measured.length.value, marginal),
    }
    return json.dumps(tree, indent=2, allow_nan=False) + "\n"


def _of_category(pooled: PooledAcceptance) -> Json:
    return {"mean_accept_length": pooled.acceptance_length_drafted, "num_verify_steps": pooled.verify_steps}


def _checkpoint(measured: MeasuredAcceptance, role: str) -> Json:
    """Returns a checkpoint's identity. A profile is published, so of a folder it has the last name alone."""
    found = measured.manifest.checkpoints.get(role)
    if found is None:
        return None
    path = PurePath(found.path)
    is_folder = path.is_absolute() or found.path.startswith((".", "~"))
    return {
        "name": path.name if is_folder else found.path,
        "revision": found.commit or found.revision,
        "fingerprint": found.fingerprint,
    }


def _conditions(measured: MeasuredAcceptance) -> Json:
    manifest, labels = measured.manifest, run_labels(measured.manifest)
    return {
        "engine": labels.engine,
        "packages": manifest.environment.get("packages"),
        "dataset": labels.dataset,
        "prompts_sha256": manifest.dataset.sha256 or None,
        "sampling": manifest.config.get("sampling"),
        "load": label_of_load(manifest).text,
        "num_runs": len(measured.cell.runs),
        "num_verify_steps": measured.pooled.verify_steps,
        "acceptance_source": measured.source,
    }


def _validation(length: float | None, marginal: list[float]) -> Json:
    implied = 1 + sum(marginal)
    difference = None if length is None else abs(implied - length)
    return {
        "mean_consistency": {
            "implied_mean_accept_length": implied,
            "reported_mean_accept_length": length,
            "abs_delta": difference,
            "passed": difference is not None and difference < 1e-9,
        },
    }
