"""A sweep's results: one row per cell, with each speculative cell compared with its baseline."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
import numpy as np
from msgspec.structs import asdict

from specdec_bench.archive.layout import RunDirectory
from specdec_bench.compare import headline, losslessness
from specdec_bench.compare.cell import (
    ALWAYS_SHOWN,
    Measured,
    OutputComparison,
    SweepResult,
    by_method,
    incomparable,
    runners_differ,
)
from specdec_bench.compare.columns import METRICS, metric_value
from specdec_bench.compare.divergence_text import with_texts
from specdec_bench.compare.intervals import around, columns, log_margin_of_runs, no_interval, rate, widen
from specdec_bench.compare.labels import method_name
from specdec_bench.compare.recommend import recommend_method
from specdec_bench.compare.row import Row, integer_in, number_in
from specdec_bench.compare.speedup import RunTimes, ideal_speedup, speedup
from specdec_bench.config.support import archived_support
from specdec_bench.metrics.definitions import DEFINITIONS
from specdec_bench.metrics.summary import summarize
from specdec_bench.records.flatten import flatten
from specdec_bench.records.interval import Interval
from specdec_bench.records.json_types import Json, Scalar
from specdec_bench.records.labels import NO_PART_OF_RUN, run_labels
from specdec_bench.records.manifest import LoadLabel, Manifest, label_of_load
from specdec_bench.records.request import RequestRecord


def read_records(_: int, run: RunDirectory) -> Sequence[RequestRecord]:
    """Returns all requests of a run."""
    return list(run.requests())


def read(run: RunDirectory, records: Sequence[RequestRecord]) -> Measured:
    """Returns a finished run with these requests.

    Raises:
        ArchiveError: a file of it is missing or broken.
    """
    manifest, summary = run.manifest(), run.summary()
    if summary.definitions != DEFINITIONS:  # written by another release, but shown in the same table
        summary = summarize(records, manifest)
    records = [record for record in records if record.phase == "measure"]
    return Measured(
        run=run,
        manifest=manifest,
        summary=summary,
        times=RunTimes(records),
        outputs=losslessness.outputs(records),
        conversations=headline.Conversations(records),
    )


def collect(
    runs: Sequence[tuple[int, RunDirectory]],
    archived: Iterable[RunDirectory] = (),
    reader: Callable[[int, RunDirectory], Sequence[RequestRecord]] = read_records,
) -> SweepResult:
    """Returns a sweep's rows, comparisons and recommendations.

    Args:
        runs: of the sweep's cells, by job number.
        archived: plain runs to compare with, if the sweep has none of its own.
        reader: returns the requests of a finished run, given its job number too. It is asked once for each.
    """
    groups: dict[str | None, list[tuple[int, RunDirectory]]] = defaultdict(list)
    rows: dict[int, Row] = {}
    configs: dict[int, Mapping[str, Json]] = {}
    loads: dict[str, LoadLabel] = {}
    for number, run in runs:
        manifest = run.manifest()
        load = label_of_load(manifest)
        rows[number], configs[number] = _settings(number, run, manifest), manifest.config
        loads.setdefault(load.axis, load)
        if manifest.status == "finished":
            groups[manifest.baseline_id].append((number, run))
    varying_fields = _add_varying_fields(rows, configs)
    plain_runs = {run.manifest().cell_id: run for run in archived}
    comparisons: dict[str, OutputComparison] = {}
    replicates, recommendations = [], []
    for baseline_id, group in groups.items():
        measured = {number: read(run, reader(number, run)) for number, run in group}
        plain = {cell.replicate: cell for cell in measured.values() if cell.is_plain}
        if 0 not in plain and baseline_id in plain_runs:
            plain_run = plain_runs[baseline_id]
            plain[0] = read(plain_run, list(plain_run.requests()))
        noise = _noise(plain)
        for number, cell in measured.items():
            rows[number] |= _metrics(cell)
            other = plain.get(0) if cell.is_plain else plain.get(cell.replicate, plain.get(0))
            if other is not None and other is not cell:
                row, comparisons[str(number)] = _compare_with_plain(other, cell, None if cell.is_plain else noise)
                rows[number] |= row
        _add_ideal([rows[number] for number in measured], plain.get(0), varying_fields)
        replicates += _summarize_replicates(plain, measured, rows, varying_fields)
        if advice := recommend_method(plain, measured, rows, varying_fields):
            recommendations.append(advice)
    return SweepResult(
        rows=[rows[number] for number in sorted(rows)],
        replicates=replicates,
        comparisons=comparisons,
        recommendations=recommendations,
        varying_fields=varying_fields,
        loads=loads,
    )


def _noise(plain: Mapping[int, Measured]) -> losslessness.Sameness | None:
    """Returns how the outputs of the first plain run and the next differ; None if they cannot be compared."""
    control = next((cell for replicate, cell in sorted(plain.items()) if replicate > 0), None)
    if 0 not in plain or control is None or incomparable(plain[0].manifest, control.manifest) is not None:
        return None
    return losslessness.compare(plain[0].outputs, control.outputs)


def _settings(number: int, run: RunDirectory, manifest: Manifest) -> Row:
    return {
        "job": number,
        "status": manifest.status,
        "path": str(run.path),
        "overrides": " ".join(manifest.overrides),
        **asdict(run_labels(manifest)),
        "replicate": _scalar(manifest.config.get("replicate", 0)),
        "cell_id": manifest.cell_id,
        "baseline_id": manifest.baseline_id,
        "environment_id": manifest.environment_id,
        "error": manifest.error,
        "runner": manifest.engine.runner or None,
        **_overridden_settings(manifest),
    }


def _overridden_settings(manifest: Manifest) -> Row:
    """Returns the values that overrides set (by dotted key) or chose (by group). Lists and tables are JSON."""
    found: Row = {}
    for override in manifest.overrides:
        key, _, choice = override.lstrip("+").partition("=")
        value: Json = manifest.config
        for name in key.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if "." in key and value is not None:
            found[key] = _scalar(value)
        elif key in ("experiment", "load", "sampling"):  # other groups have columns
            found[key] = choice
    return found


def _scalar(value: object) -> Scalar:
    return value if value is None or isinstance(value, str | int | float) else json.dumps(value)


def _add_varying_fields(rows: Mapping[int, Row], configs: Mapping[int, Mapping[str, Json]]) -> list[str]:
    """Adds columns for the fields that differ between cells with the same `ALWAYS_SHOWN`, and returns their names."""
    fields = {number: {k: _scalar(v) for k, v in flatten(config).items()} for number, config in configs.items()}
    alike: dict[tuple[Scalar, ...], list[Row]] = defaultdict(list)
    for number, row in rows.items():
        alike[tuple(row[name] for name in ALWAYS_SHOWN)].append(fields[number])
    names: set[str] = set()
    for cells in alike.values():
        names |= {name for name in set().union(*cells) if len({cell.get(name) for cell in cells}) > 1}
    hidden = ("replicate", "load.arrivals")  # the latter has as many numbers as a trace has arrivals
    varying_fields = sorted(name for name in names if name not in hidden and not name.startswith(NO_PART_OF_RUN))
    for number, row in rows.items():
        row |= {name: fields[number].get(name) for name in varying_fields}
    return varying_fields


def _metrics(cell: Measured) -> Row:
    summary = cell.summary
    values = {name: metric_value(summary, name) for name in METRICS}
    row: Row = {
        "num_finished": summary.requests.finished,
        "num_failed": summary.requests.failed,
        "synthetic": summary.synthetic,
        "saturated": summary.client.saturated,
        "num_preempted": summary.requests.preempted,
        "acceptance_source": summary.acceptance.source,
        **values,
    }
    for name, interval in _intervals(cell).items():
        row |= columns(name, msgspec.structs.replace(interval, value=values[name]))
    return row


def _intervals(cell: Measured) -> dict[str, Interval]:
    """Returns the intervals of a run's metrics, over its conversations; for `output_tps`, over its repeats."""
    repeats = cell.times.repeats()
    return headline.pooled_metrics([cell.conversations]) | ({"output_tps": rate(*repeats)} if repeats else {})


def _compare_with_plain(
    plain: Measured, cell: Measured, noise: losslessness.Sameness | None
) -> tuple[Row, OutputComparison]:
    """Returns a cell's metrics against its plain cell, and its diverging outputs. `noise` compares two plain runs."""
    baseline = str(plain.run.path)
    if (reason := incomparable(plain.manifest, cell.manifest)) is not None:
        return {"baseline": baseline, "not_compared": reason}, OutputComparison(not_compared=reason)
    row: Row = {"baseline": baseline, **_speedups([plain], [cell])}
    if (caveat := runners_differ(plain.manifest, cell.manifest)) is not None:
        row["speedup_caveat"] = caveat
    if (run_labels(cell.manifest).temperature or 0) > 0:
        return row | {"lossless": "not checked: temperature above 0"}, OutputComparison(lossless=None)
    if cell.summary.synthetic and archived_support(cell.manifest.config).synthetic_changes_outputs:
        return row | {"lossless": "not checked: synthetic acceptance"}, OutputComparison(lossless=None)
    compared = losslessness.compare(plain.outputs, cell.outputs)
    row |= {
        "num_compared": compared.num_compared,
        "num_identical": compared.num_identical,
        "share_identical": compared.share_identical,
        "control_share_identical": None if noise is None else noise.share_identical,
        "lossless": losslessness.verdict(compared, noise),
    }
    divergences = with_texts(compared.divergences, plain.run, cell.run)
    compared = msgspec.structs.replace(compared, divergences=divergences)
    return row, OutputComparison(baseline=baseline, measured=compared, control=noise)


def _speedups(plain: Sequence[Measured], runs: Sequence[Measured]) -> Row:
    found = speedup([run.times for run in plain], [run.times for run in runs])
    return {
        "num_conversations": found.num_conversations,
        **columns("speedup_tpot", found.speedup_tpot),
        **columns("speedup_e2e", found.speedup_e2e),
        **columns("speedup_throughput", found.speedup_throughput),
    }


def _add_ideal(rows: Sequence[Row], plain: Measured | None, varying_fields: Sequence[str]) -> None:
    """Adds the speedup without overhead, if a method was run with several draft lengths.

    The cost of one draft step is the time that each additional drafted token adds to a decode step. c is this cost
    divided by the time of a plain decode step. The gap between both speedups is the engine's overhead.
    """
    plain_ms = plain.summary.latency.step_time_ms.p50 if plain else None
    methods: dict[str, list[tuple[Row, int, float]]] = defaultdict(list)
    for row in rows:
        draft_length, step_ms = integer_in(row, "draft_length"), number_in(row, "step_time_ms_p50")
        # Where the draft length follows the batch, no single one explains the step's time.
        if draft_length is not None and step_ms is not None and row.get("draft_lengths") is None:
            methods[method_name(row, varying_fields)].append((row, draft_length, step_ms))
    for same in methods.values():
        lengths = [draft_length for _, draft_length, _ in same]
        if not plain_ms or len(set(lengths)) < 2:
            continue
        slope = float(np.polyfit(lengths, [step_ms for _, _, step_ms in same], 1)[0])
        cost_ratio = max(slope, 0.0) / plain_ms
        for row, draft_length, _ in same:
            row["cost_ratio"] = cost_ratio
            if (length := number_in(row, "acceptance_length")) is not None:
                row["ideal_speedup"] = ideal = ideal_speedup(length, draft_length, cost_ratio)
                if (speedup_tpot := number_in(row, "speedup_tpot")) is not None:
                    row["ideal_speedup_gap"] = ideal - speedup_tpot


def _summarize_replicates(
    plain: Mapping[int, Measured],
    measured: Mapping[int, Measured],
    rows: Mapping[int, Row],
    varying_fields: Sequence[str],
) -> list[Row]:
    """Returns one row for each cell that was run several times: its metrics and speedups over all of its runs.

    `job` is the number of the first run; `jobs` has the numbers of all runs.
    """
    methods = by_method(plain, measured)
    if methods and max(map(len, methods.values())) < 2:  # only the plain cell was run several times
        return []
    found = []
    plain_runs = {cell.replicate: (number, cell) for number, cell in measured.items() if cell.is_plain}
    for runs in (plain_runs, *methods.values()):
        if len(runs) < 2:
            continue
        numbers, cells = zip(*(runs[replicate] for replicate in sorted(runs)), strict=True)
        first = rows[numbers[0]]
        row = {name: first[name] for name in ("job", *ALWAYS_SHOWN, "temperature", "seed", *varying_fields)}
        row |= {"jobs": " ".join(map(str, numbers)), "num_runs": len(numbers)}
        for name, interval in _metrics_over_runs(cells, [rows[number] for number in numbers]).items():
            row |= columns(name, interval)
        if not cells[0].is_plain:
            row |= _speedups([plain[replicate] for replicate in sorted(runs)], cells)
        found.append(row)
    return found


def _metrics_over_runs(cells: Sequence[Measured], rows: Sequence[Row]) -> dict[str, Interval]:
    """Returns the metrics of all runs of a cell, with intervals over runs and, for headline metrics, conversations."""
    found: dict[str, Interval] = headline.pooled_metrics([cell.conversations for cell in cells])
    for name in METRICS:
        values = [value for row in rows if (value := number_in(row, name)) is not None]
        if len(values) < len(rows) or min(values) <= 0:
            found.setdefault(name, no_interval(None))
            continue
        margin = log_margin_of_runs(np.array(values))
        found[name] = widen(found[name], margin) if name in found else around(float(np.mean(values)), margin)
    return found
