"""Two or more archives side by side: what differs, each metric with its interval, whether it is judged, the outputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from specdec_bench.archive.provenance import comparable
from specdec_bench.compare import losslessness
from specdec_bench.compare.cell import runners_differ
from specdec_bench.compare.columns import METRICS
from specdec_bench.compare.comparable import OF_DRAFTS, Reasons, reasons_against
from specdec_bench.compare.differences import Difference, differences
from specdec_bench.compare.divergence_text import with_texts
from specdec_bench.compare.effects import Effect, Overlap, Paired, effects
from specdec_bench.compare.gates import Gate
from specdec_bench.compare.intervals import CONFIDENCE, holm
from specdec_bench.compare.pairing import Archive, Pair, match_cells
from specdec_bench.compare.sides import ComparedRun, read_run
from specdec_bench.compare.speedup import MIN_RUNS
from specdec_bench.records.flatten import flatten
from specdec_bench.records.interval import Interval
from specdec_bench.records.labels import run_labels
from specdec_bench.records.request import Record

SCHEMA_VERSION = 1
"""Of the JSON that `compare --format json` writes."""
Verdict = Literal["better", "worse", "no difference found", "not judged"]


class MetricComparison(Record, frozen=True, kw_only=True):
    """One metric of two cells."""

    metric: str
    """A column of the sweep's table."""
    reference: float | None
    value: float | None
    ratio: Interval
    """`value / reference`."""
    p_value: float | None = None
    """Corrected for the number of metrics that were judged (Holm)."""
    verdict: Verdict
    reason: str | None = None
    """Why there is no ratio, or why it is not judged."""


class OutputsComparison(Record, frozen=True, kw_only=True):
    """The outputs of the first runs of two cells, at temperature 0."""

    num_compared: int
    num_identical: int
    share_identical: float | None
    control_share_identical: float | None
    """The same share for two runs of the reference; None if it has a single run."""
    num_prompts_differ: int
    """Later turns whose prompts differ because an earlier reply did; they are not compared."""
    first_difference_min: int | None
    """The first position at which any output differs, from 0."""
    first_difference_p50: float | None
    """The median over outputs that differ."""
    verdict: str
    """See `losslessness.verdict`; the control is a second run of the reference."""
    examples: tuple[losslessness.Divergence, ...]


class CellComparison(Record, frozen=True, kw_only=True):
    """Two cells."""

    archive: int
    """The number of the archive that is compared with the first, which has number 0."""
    name: str
    reference_runs: tuple[str, ...]
    """Folders."""
    runs: tuple[str, ...]
    overlap: Overlap
    metrics: tuple[MetricComparison, ...]
    outputs: OutputsComparison | None
    outputs_reason: str | None
    """Why outputs are not compared."""
    notes: tuple[str, ...]
    """What to keep in mind: another environment, warnings of the runs."""


class Unmatched(Record, frozen=True, kw_only=True):
    """A cell that only one of two archives has."""

    archive: int
    """The number of the archive that is compared with the first."""
    name: str
    is_missing: bool
    """Whether the archive lacks it; otherwise the first does."""


class GateResult(Record, frozen=True, kw_only=True):
    """What a condition found."""

    text: str
    failed: tuple[str, ...]
    """One line for each cell that fails it."""
    not_judged: tuple[str, ...]
    """One line for each cell of which it cannot be said."""


class Comparison(Record, frozen=True, kw_only=True):
    """All of it."""

    schema_version: int = SCHEMA_VERSION
    archives: tuple[str, ...]
    """Folders. The first is the reference."""
    unfinished: tuple[str, ...]
    """Folders of runs that did not finish; they are not compared."""
    differences: tuple[Difference, ...]
    cells: tuple[CellComparison, ...]
    unmatched: tuple[Unmatched, ...]
    num_judged: int
    """Metrics that the p-values are corrected for."""
    gates: tuple[GateResult, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Compared:
    """Two cells before they are judged."""

    archive: int
    pair: Pair
    reasons: Reasons
    overlap: Overlap
    effects: Mapping[str, Effect]
    outputs: OutputsComparison | None
    notes: Sequence[str]

    @property
    def few_runs(self) -> str | None:
        """Why no difference is judged, if there are too few runs."""
        counts = (len(self.pair.reference.runs), len(self.pair.other.runs))
        return None if min(counts) >= MIN_RUNS else f"{counts[0]} and {counts[1]} runs, of at least {MIN_RUNS} each"


def compare(archives: Sequence[Archive], metrics: Sequence[str], gates: Sequence[Gate] = ()) -> Comparison:
    """Returns the comparison of every archive with the first.

    Args:
        archives: at least two.
        metrics: columns of the sweep's table.
        gates: conditions; their metrics are compared too.

    Raises:
        ArchiveError: a file of a run is missing or broken.
    """
    names = list(dict.fromkeys([*metrics, *(gate.metric for gate in gates)]))
    compared: list[_Compared] = []
    unmatched: list[Unmatched] = []
    for number, archive in enumerate(archives[1:], start=1):
        match = match_cells(archives[0], archive)
        compared += [_compare_pair(number, pair, names) for pair in match.pairs]
        for of_one, is_missing in ((match.only_in_reference, True), (match.only_in_other, False)):
            unmatched += [Unmatched(archive=number, name=name, is_missing=is_missing) for name in of_one]
    p_values = _correct(compared)
    cells = [_judge(found, index, p_values) for index, found in enumerate(compared)]
    return Comparison(
        archives=tuple(archive.path for archive in archives),
        unfinished=tuple(str(run.path) for archive in archives for run in archive.unfinished),
        differences=tuple(differences(archives)),
        cells=tuple(cells),
        unmatched=tuple(unmatched),
        num_judged=len(p_values),
        gates=tuple(_judge_gate(gate, cells, unmatched) for gate in gates),
    )


def _compare_pair(archive: int, pair: Pair, names: Sequence[str]) -> _Compared:
    engines = {run_labels(cell.manifests[0]).engine for cell in (pair.reference, pair.other)}
    cuts = len(engines) > 1
    reference, other = (
        [read_run(run, cuts_last_step=cuts) for run in cell.runs] for cell in (pair.reference, pair.other)
    )
    reasons, paired = reasons_against(reference, other), Paired(reference, other)
    return _Compared(
        archive=archive,
        pair=pair,
        reasons=reasons,
        overlap=paired.overlap,
        effects=effects(paired, names, by_request=OF_DRAFTS if cuts else ()),
        outputs=_compare_outputs(reference, other) if reasons.outputs is None else None,
        notes=_notes(reference, other, cuts=cuts),
    )


def _notes(reference: Sequence[ComparedRun], other: Sequence[ComparedRun], *, cuts: bool) -> list[str]:
    then, now = (flatten(comparable(side[0].manifest.environment)) for side in (reference, other))
    changed = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    notes = (
        [f"measured in other environments ({', '.join(changed)}): times hold this difference too"] if changed else []
    )
    runners = {runners_differ(one.manifest, two.manifest) for one in reference for two in other} - {None}
    notes += sorted(filter(None, runners))
    if cuts:
        notes.append("the engines differ: metrics of drafts leave out the last verify step of each request")
    late = sum(bool(run.summary.client.saturated) for run in (*reference, *other))
    if late:
        notes.append(f"SATURATED CLIENT in {late} runs: times are the client's as much as the engine's")
    synthetic = {run.summary.synthetic for run in (*reference, *other)} - {None}
    return [*notes, *(f"SYNTHETIC: {reason}" for reason in sorted(filter(None, synthetic)))]


def _compare_outputs(reference: Sequence[ComparedRun], other: Sequence[ComparedRun]) -> OutputsComparison:
    one, two = reference[0].outputs, other[0].outputs
    found = losslessness.compare(one, two)
    control = losslessness.compare(one, reference[1].outputs) if len(reference) > 1 else None
    positions = losslessness.first_differences(one, two)
    return OutputsComparison(
        num_compared=found.num_compared,
        num_identical=found.num_identical,
        share_identical=found.share_identical,
        control_share_identical=None if control is None else control.share_identical,
        num_prompts_differ=found.num_prompts_differ,
        first_difference_min=min(positions, default=None),
        first_difference_p50=float(np.median(positions)) if positions else None,
        verdict=losslessness.verdict(found, control),
        examples=with_texts(found.divergences, reference[0].run, other[0].run),
    )


def _correct(compared: Sequence[_Compared]) -> dict[tuple[int, str], float]:
    """Returns the corrected p-value of each judged metric, by number of the comparison and name: one family."""
    raw = {
        (index, name): effect.p_value
        for index, found in enumerate(compared)
        if found.few_runs is None
        for name, effect in found.effects.items()
        if effect.p_value is not None and found.reasons.of(name) is None
    }
    return dict(zip(raw, holm(list(raw.values())), strict=True))


def _judge(found: _Compared, index: int, p_values: Mapping[tuple[int, str], float]) -> CellComparison:
    metrics = []
    for name, effect in found.effects.items():
        if effect.reference is None and effect.value is None:
            continue  # nothing was drafted, or no objective was stated
        refused, p_value = found.reasons.of(name), p_values.get((index, name))
        metrics.append(
            MetricComparison(
                metric=name,
                reference=effect.reference,
                value=effect.value,
                ratio=effect.ratio if refused is None else Interval(value=None),
                p_value=p_value,
                verdict="not judged" if p_value is None else _verdict(name, effect.ratio, p_value),
                reason=refused or _why_not_judged(found, effect) if p_value is None else None,
            )
        )
    return CellComparison(
        archive=found.archive,
        name=found.pair.name,
        reference_runs=tuple(str(run.path) for run in found.pair.reference.runs),
        runs=tuple(str(run.path) for run in found.pair.other.runs),
        overlap=found.overlap,
        metrics=tuple(metrics),
        outputs=found.outputs,
        outputs_reason=found.reasons.outputs,
        notes=tuple(found.notes),
    )


def _why_not_judged(found: _Compared, effect: Effect) -> str:
    if effect.reference is None or effect.value is None:
        return "undefined on one side"
    if effect.ratio.value is None:
        return "a value of 0 has no ratio"
    return found.few_runs or "a single conversation"


def _verdict(name: str, ratio: Interval, p_value: float) -> Verdict:
    if p_value > 1 - CONFIDENCE or ratio.value is None or ratio.value == 1:
        return "no difference found"
    is_higher_better = METRICS[name].better == "maximize"
    return "better" if (ratio.value > 1) == is_higher_better else "worse"


def _judge_gate(gate: Gate, cells: Sequence[CellComparison], unmatched: Sequence[Unmatched]) -> GateResult:
    """Returns which cells fail a condition: those whose whole interval lies beyond the limit.

    The correction for the number of metrics plays no part. The condition was stated before the measurement, and a guard
    that grows laxer with every metric shown beside it would let changes pass.
    """
    failed, not_judged = [], []
    num_judged = 0
    for cell in cells:
        found = next((metric for metric in cell.metrics if metric.metric == gate.metric), None)
        if found is None:
            continue
        if found.verdict == "not judged":
            not_judged.append(f"{cell.name}: {found.reason}")
            continue
        num_judged += 1
        if gate.is_beyond(found.ratio):
            change = " to ".join(
                f"{100 * (end - 1):+.2f}%" for end in (found.ratio.low, found.ratio.high) if end is not None
            )
            failed.append(f"{cell.name}: {change}")
    not_judged += [f"{cell.name}: the archive lacks this cell" for cell in unmatched if cell.is_missing]
    if not num_judged and not not_judged:
        not_judged.append("no cell has this metric")
    return GateResult(text=gate.text, failed=tuple(failed), not_judged=tuple(not_judged))
