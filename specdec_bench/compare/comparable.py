"""Why two cells must not be compared in some of their metrics, or in their outputs."""

from collections.abc import Sequence

from specdec_bench.compare.columns import METRICS
from specdec_bench.compare.sides import ComparedRun
from specdec_bench.config.support import archived_support
from specdec_bench.metrics.declarations import METRICS as DECLARED
from specdec_bench.metrics.declarations import column_name
from specdec_bench.records.flatten import flatten
from specdec_bench.records.manifest import Manifest, label_of_load
from specdec_bench.records.options import number_option, options
from specdec_bench.records.request import Record

OF_ACCEPTANCE = frozenset(column_name(metric) for metric in DECLARED if metric.family == "acceptance") & METRICS.keys()
OF_DRAFTS = frozenset({"acceptance_length_drafted", "draft_acceptance_rate"})
"""Metrics that the last verify step of a request is part of."""


class Reasons(Record, frozen=True, kw_only=True):
    """Why two cells are not compared, by what would be; None: they are."""

    acceptance: str | None
    speed: str | None
    outputs: str | None

    def of(self, metric: str) -> str | None:
        """Returns the reason for a metric of the sweep's table."""
        return self.acceptance if metric in OF_ACCEPTANCE else self.speed


def reasons_against(reference: Sequence[ComparedRun], other: Sequence[ComparedRun]) -> Reasons:
    """Returns why a ratio of two cells would say nothing.

    Engine, release, machine, method, draft and settings may differ: they are what is compared. The work must be the
    same: prompts as they were sent, target, sampling and, for anything that takes time, the load.
    """
    one, two = reference[0].manifest, other[0].manifest
    reason = _other_work(one, two) or _other_requests(reference[0], other[0])
    return Reasons(
        acceptance=reason or _other_counts(reference, other),
        speed=reason or _other_load(one, two),
        outputs=reason or _no_outputs(one, two),
    )


def _other_work(one: Manifest, two: Manifest) -> str | None:
    imported = next((manifest.imported for manifest in (one, two) if manifest.imported is not None), None)
    if imported is not None:
        return f"imported from {imported.tool}, which does not tell whether the work is the same"
    if one.dataset.sha256 != two.dataset.sha256:
        return "the prompts differ"
    if (one.synthetic is None) != (two.synthetic is None):
        return f"one of them is not of a real model ({one.synthetic or two.synthetic})"
    weights = [target and target.fingerprint for target in (m.checkpoints.get("target") for m in (one, two))]
    if weights[0] != weights[1]:
        return "the target's weights differ"
    if fields := _describe_differences(one, two, "sampling"):
        return f"the sampling differs ({fields})"
    return None


def _other_requests(one: ComparedRun, two: ComparedRun) -> str | None:
    """Returns whether a first turn was sent as other tokens; later ones hold replies, which may differ."""
    first = [key for key in one.outputs.keys() & two.outputs.keys() if key[1] == 0]
    if not first:
        return "no request finished in both"
    if any(one.outputs[key][0] != two.outputs[key][0] for key in first):
        return "the same prompts were sent as other tokens: the chat template or the tokenizer differs"
    return None


def _other_counts(reference: Sequence[ComparedRun], other: Sequence[ComparedRun]) -> str | None:
    sources = {run.summary.acceptance.source for run in (*reference, *other)}
    if "stream" in sources:
        return "acceptance was counted from a stream, which is an upper bound"
    return None


def _other_load(one: Manifest, two: Manifest) -> str | None:
    # The same load, whichever number of clients offers it; where they were late, the summary says so.
    if fields := _describe_differences(one, two, "load", but=("clients",)):
        return f"the load differs ({fields})"
    is_open = label_of_load(one).max_in_flight is None
    if is_open and one.config.get("seed") != two.config.get("seed"):
        return f"the arrivals differ (seed: {one.config.get('seed')}, {two.config.get('seed')})"
    return None


def _no_outputs(one: Manifest, two: Manifest) -> str | None:
    if (number_option(one.config, "sampling", "temperature") or 0) > 0:
        return "temperature above 0"
    if any(m.synthetic and archived_support(m.config).synthetic_changes_outputs for m in (one, two)):
        return "synthetic acceptance changes outputs"
    return None


def _describe_differences(one: Manifest, two: Manifest, group: str, but: tuple[str, ...] = ()) -> str:
    """Returns the options of a group that differ with both values, in words; empty if there are none.

    Args:
        one: a run.
        two: another.
        group: of options.
        but: options that do not count.
    """
    then, now = (flatten(options(manifest.config, group)) for manifest in (one, two))
    # An option that is left null did not exist in earlier releases.
    names = [name for name in {**then, **now} if then.get(name) != now.get(name) and name not in but]
    return "; ".join(f"{name}: {_short(then.get(name))}, {_short(now.get(name))}" for name in sorted(names))


def _short(value: object) -> str:
    return f"{len(value)} values" if isinstance(value, list) and len(value) > 8 else str(value)
