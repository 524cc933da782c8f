"""What comes out of a sweep: one row a cell, each speculative one beside its plain one."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from specdec_bench.archive.layout import RunDirectory
from specdec_bench.archive.provenance import comparable
from specdec_bench.config.identity import flat
from specdec_bench.metrics import headline, losslessness
from specdec_bench.metrics.intervals import Interval, around, columns, log_margin_of_runs, no_interval, rate, widened
from specdec_bench.metrics.speedup import RunTimes, ideal_speedup, recommend, speedup
from specdec_bench.records import Manifest
from specdec_bench.sweep.objective import FIGURES, figure

TEXT_AROUND = 60
"""Characters of text shown on either side of a divergence."""
ALWAYS_SHOWN = ("engine", "model", "dataset", "spec", "draft_length", "concurrency")
"""Columns by which tables and plots tell cells apart, beside the replicate."""


@dataclass(kw_only=True)
class Measured:
    """A finished cell, read in one pass."""

    run: RunDirectory
    manifest: Manifest
    summary: dict[str, Any]
    times: RunTimes
    outputs: losslessness.Outputs
    conversations: headline.Conversations

    @property
    def is_plain(self) -> bool:
        """Whether nothing was drafted."""
        return bool(self.manifest.config["spec"]["name"] == "none")

    @property
    def replicate(self) -> int:
        """Which of several runs of the same cell it is."""
        return int(self.manifest.config.get("replicate", 0))

    @property
    def method(self) -> str:
        """All of `spec`: what tells it from the other cells of the same baseline."""
        return json.dumps(self.manifest.config["spec"], sort_keys=True)


@dataclass(kw_only=True)
class SweepResult:
    """All of it, as plain data."""

    rows: list[dict[str, Any]]
    """One a cell."""
    replicates: list[dict[str, Any]]
    """One for all runs of a cell that was run several times beside as many plain runs."""
    comparisons: dict[str, Any]
    """By job number: the divergences of outputs, with text."""
    recommendations: list[dict[str, Any]]
    told_apart: list[str]
    """Columns of the rows: the fields in which cells differ that `ALWAYS_SHOWN` does not tell apart."""


def read(run: RunDirectory) -> Measured:
    """Returns a finished run.

    Raises:
        ArchiveError: a file of it is missing or broken.
    """
    records = [record for record in run.requests() if record.phase == "measure"]
    return Measured(
        run=run,
        manifest=run.manifest(),
        summary=run.summary(),
        times=RunTimes(records),
        outputs=losslessness.outputs(records),
        conversations=headline.Conversations(records),
    )


def collect(runs: Sequence[tuple[int, RunDirectory]], archived: Iterable[RunDirectory] = ()) -> SweepResult:
    """Returns a sweep's rows, comparisons and recommendations.

    Args:
        runs: of the sweep's cells, by job number.
        archived: plain runs to compare with, where the sweep has none of its own.
    """
    groups: dict[str | None, list[tuple[int, RunDirectory]]] = defaultdict(list)
    rows: dict[int, dict[str, Any]] = {}
    configs: dict[int, dict[str, Any]] = {}
    for number, run in runs:
        manifest = run.manifest()
        rows[number], configs[number] = _asked(number, run, manifest), manifest.config
        if manifest.status == "finished":
            groups[manifest.baseline_id].append((number, run))
    told_apart = _tell_apart(rows, configs)
    plain_runs = {run.manifest().cell_id: run for run in archived}
    comparisons: dict[str, Any] = {}
    replicates, recommendations = [], []
    for baseline_id, group in groups.items():
        measured = {number: read(run) for number, run in group}
        plain = {cell.replicate: cell for cell in measured.values() if cell.is_plain}
        if 0 not in plain and baseline_id in plain_runs:
            plain[0] = read(plain_runs[baseline_id])
        noise = _noise(plain)
        for number, cell in measured.items():
            rows[number] |= _figures(cell)
            other = plain.get(0) if cell.is_plain else plain.get(cell.replicate, plain.get(0))
            if other is not None and other is not cell:
                row, comparisons[str(number)] = _against(other, cell, None if cell.is_plain else noise)
                rows[number] |= row
        _add_ideal([rows[number] for number in measured], plain.get(0), told_apart)
        replicates += _replicates(plain, measured, rows, told_apart)
        if plain and (advice := _recommend(plain, measured, rows, told_apart)):
            recommendations.append(advice)
    return SweepResult(
        rows=[rows[number] for number in sorted(rows)],
        replicates=replicates,
        comparisons=comparisons,
        recommendations=recommendations,
        told_apart=told_apart,
    )


def _noise(plain: Mapping[int, Measured]) -> dict[str, Any] | None:
    """Returns in what the outputs of the first plain run and of the next differ; None where there is none."""
    control = next((cell for replicate, cell in sorted(plain.items()) if replicate > 0), None)
    if 0 not in plain or control is None or _incomparable(plain[0].manifest, control.manifest) is not None:
        return None
    return losslessness.compare(plain[0].outputs, control.outputs)


def _asked(number: int, run: RunDirectory, manifest: Manifest) -> dict[str, Any]:
    config = manifest.config
    return {
        "job": number,
        "status": manifest.status,
        "path": str(run.path),
        "overrides": " ".join(manifest.overrides),
        "engine": config["engine"]["name"],
        "model": config["model"]["name"],
        "dataset": config["dataset"]["name"],
        "spec": config["spec"]["name"],
        "draft_length": config["spec"].get("draft_length"),
        "concurrency": config["load"].get("concurrency"),
        "temperature": config["sampling"]["temperature"],
        "seed": config["seed"],
        "replicate": config.get("replicate", 0),
        "cell_id": manifest.cell_id,
        "baseline_id": manifest.baseline_id,
        "environment_id": manifest.environment_id,
        "error": manifest.error,
        **_overridden(manifest),
    }


def _overridden(manifest: Manifest) -> dict[str, Any]:
    """Returns what the overrides set, by dotted key, or chose, by group; lists and tables as JSON."""
    found: dict[str, Any] = {}
    for override in manifest.overrides:
        key, _, choice = override.lstrip("+").partition("=")
        value: Any = manifest.config
        for name in key.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        if "." in key and value is not None:
            found[key] = _scalar(value)
        elif key in ("experiment", "load", "sampling"):  # other groups have columns
            found[key] = choice
    return found


def _scalar(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | Mapping) else value


def _tell_apart(rows: Mapping[int, dict[str, Any]], configs: Mapping[int, dict[str, Any]]) -> list[str]:
    """Adds columns for the fields in which cells differ that are otherwise alike, and returns their names."""
    fields = {number: {k: _scalar(v) for k, v in flat(config).items()} for number, config in configs.items()}
    alike: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for number, row in rows.items():
        alike[tuple(row[name] for name in ALWAYS_SHOWN)].append(fields[number])
    names: set[str] = set()
    for cells in alike.values():
        names |= {name for name in set().union(*cells) if len({cell.get(name) for cell in cells}) > 1}
    told_apart = sorted(name for name in names if name != "replicate" and not name.startswith("expected."))
    for number, row in rows.items():
        row |= {name: fields[number].get(name) for name in told_apart}
    return told_apart


def _figures(cell: Measured) -> dict[str, Any]:
    summary = cell.summary
    row = {
        "num_finished": summary["requests"]["finished"],
        "num_failed": summary["requests"]["failed"],
        "synthetic": summary["synthetic"],
        "saturated": summary["client"]["saturated"],
        "num_preempted": summary["requests"].get("preempted"),  # archives of before have none
        "acceptance_source": summary["acceptance"]["source"],
        **{name: figure(summary, name) for name in FIGURES},
    }
    for name, interval in _intervals(cell).items():
        row |= columns(name, {**interval, "value": row[name]})
    return row


def _intervals(cell: Measured) -> dict[str, Interval]:
    """Returns the intervals of a run's figures: over its conversations; of `output_tps` over its repeats."""
    repeats = cell.times.repeats()
    return headline.figures([cell.conversations]) | ({"output_tps": rate(*repeats)} if repeats else {})


def _against(plain: Measured, cell: Measured, noise: dict[str, Any] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns a cell's figures against its plain one, and its diverging outputs. `noise` is of plain against plain."""
    if (reason := _incomparable(plain.manifest, cell.manifest)) is not None:
        return {"baseline": str(plain.run.path), "not_compared": reason}, {"not_compared": reason}
    row: dict[str, Any] = {"baseline": str(plain.run.path), **_speedups([plain], [cell])}
    if cell.manifest.config["sampling"]["temperature"] > 0:
        return row | {"lossless": "not checked: temperature above 0"}, {"lossless": None}
    if cell.summary["synthetic"] and cell.manifest.config["engine"]["name"] != "synthetic":
        return row | {"lossless": "not checked: synthetic acceptance"}, {"lossless": None}
    compared = losslessness.compare(plain.outputs, cell.outputs)
    row |= {
        "num_compared": compared["num_compared"],
        "num_identical": compared["num_identical"],
        "share_identical": compared["share_identical"],
        "control_share_identical": noise and noise["share_identical"],
        "lossless": losslessness.verdict(compared, noise),
    }
    if compared["divergences"]:
        baseline_texts, texts = _texts(plain.run), _texts(cell.run)
        for divergence in compared["divergences"]:
            key = (divergence["prompt_id"], divergence["turn"], divergence["repeat"])
            divergence["baseline_text"], divergence["text"] = _around(baseline_texts.get(key), texts.get(key))
    return row, {"baseline": str(plain.run.path), "measured": compared, "control": noise}


def _speedups(plain: Sequence[Measured], runs: Sequence[Measured]) -> dict[str, Any]:
    figures = speedup([run.times for run in plain], [run.times for run in runs])
    row = {"num_conversations": figures["num_conversations"]}
    for name in ("speedup_tpot", "speedup_e2e", "speedup_throughput"):
        row |= columns(name, figures[name])
    return row


def _incomparable(plain: Manifest, cell: Manifest) -> str | None:
    """Returns why two runs must not be compared, although the same was asked for; None if they may be."""
    if plain.environment_id != cell.environment_id:
        then, now = comparable(plain.environment), comparable(cell.environment)
        names = [name for name in {**then, **now} if then.get(name) != now.get(name)]
        return f"measured in another environment ({', '.join(names)})"
    weights = [manifest.checkpoints.get("target", {}).get("fingerprint") for manifest in (plain, cell)]
    return "the target's weights differ" if weights[0] != weights[1] else None


def _texts(run: RunDirectory) -> dict[tuple[str, int, int], str]:
    return {(r.prompt_id, r.turn, r.repeat): r.text for r in run.responses()}


def _around(baseline: str | None, other: str | None) -> tuple[str | None, str | None]:
    """Returns both texts around the first character in which they differ."""
    if baseline is None or other is None:
        return None, None
    shorter = min(len(baseline), len(other))
    at = next((i for i in range(shorter) if baseline[i] != other[i]), shorter)
    around = slice(max(at - TEXT_AROUND, 0), at + TEXT_AROUND)
    return baseline[around], other[around]


def _add_ideal(rows: Sequence[dict[str, Any]], plain: Measured | None, told_apart: Sequence[str]) -> None:
    """Adds the speedup without overhead, where a method was run with several draft lengths.

    Then the cost of one draft step is how much longer a decode step takes for each token more that is drafted, and
    c that over the plain decode step. The gap between both speedups is the engine's overhead.
    """
    plain_ms = plain.summary["latency"]["step_time_ms"]["p50"] if plain else None
    methods: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["draft_length"] is not None and row["step_time_ms_p50"] is not None:
            methods[method_name(row, told_apart)].append(row)
    for same in methods.values():
        lengths = [row["draft_length"] for row in same]
        if not plain_ms or len(set(lengths)) < 2:
            continue
        slope = float(np.polyfit(lengths, [row["step_time_ms_p50"] for row in same], 1)[0])
        cost_ratio = max(slope, 0.0) / plain_ms
        for row in same:
            row["cost_ratio"] = cost_ratio
            if row["acceptance_length"] is not None:
                ideal = ideal_speedup(row["acceptance_length"], row["draft_length"], cost_ratio)
                row["ideal_speedup"] = ideal
                if row.get("speedup_tpot") is not None:
                    row["ideal_speedup_gap"] = ideal - row["speedup_tpot"]


def _by_method(
    plain: Mapping[int, Measured], measured: Mapping[int, Measured]
) -> dict[str, dict[int, tuple[int, Measured]]]:
    """Returns the speculative cells that may be compared: by method and replicate, job number and run."""
    methods: dict[str, dict[int, tuple[int, Measured]]] = defaultdict(dict)
    for number, cell in measured.items():
        other = plain.get(cell.replicate)
        if not cell.is_plain and other is not None and _incomparable(other.manifest, cell.manifest) is None:
            methods[cell.method][cell.replicate] = (number, cell)
    return methods


def _replicates(
    plain: Mapping[int, Measured],
    measured: Mapping[int, Measured],
    rows: Mapping[int, dict[str, Any]],
    told_apart: Sequence[str],
) -> list[dict[str, Any]]:
    """Returns one row for each cell that was run several times: its figures and speedups over all of its runs.

    `job` is the number of the first run, `jobs` those of all.
    """
    methods = _by_method(plain, measured)
    if methods and max(map(len, methods.values())) < 2:  # a plain cell's control is all there is
        return []
    found = []
    plain_runs = {cell.replicate: (number, cell) for number, cell in measured.items() if cell.is_plain}
    for runs in (plain_runs, *methods.values()):
        if len(runs) < 2:
            continue
        numbers, cells = zip(*(runs[replicate] for replicate in sorted(runs)), strict=True)
        first = rows[numbers[0]]
        row = {name: first[name] for name in ("job", *ALWAYS_SHOWN, "temperature", "seed", *told_apart)}
        row |= {"jobs": " ".join(map(str, numbers)), "num_runs": len(numbers)}
        for name, interval in _over_runs(cells, [rows[number] for number in numbers]).items():
            row |= columns(name, interval)
        if not cells[0].is_plain:
            row |= _speedups([plain[replicate] for replicate in sorted(runs)], cells)
        found.append(row)
    return found


def _over_runs(cells: Sequence[Measured], rows: Sequence[dict[str, Any]]) -> dict[str, Interval]:
    """Returns the figures of all runs of a cell, with intervals over runs and, where they have some, conversations."""
    found: dict[str, Interval] = headline.figures([cell.conversations for cell in cells])
    for name in FIGURES:
        values = [row[name] for row in rows]
        if None in values or min(values) <= 0:
            found.setdefault(name, no_interval(None))
            continue
        margin = log_margin_of_runs(np.array(values))
        found[name] = widened(found[name], margin) if name in found else around(float(np.mean(values)), margin)
    return found


def _recommend(
    plain: Mapping[int, Measured],
    measured: Mapping[int, Measured],
    rows: Mapping[int, dict[str, Any]],
    told_apart: Sequence[str],
) -> dict[str, Any] | None:
    """Returns the fastest method and draft length for one load, or the tie that it is; of the replicates all have."""
    methods = _by_method(plain, measured)
    if not methods:
        return None
    replicates = sorted(set.intersection(*map(set, methods.values())))
    candidates: dict[str, list[RunTimes]] = {}
    for runs in methods.values():
        number, _ = next(iter(runs.values()))
        candidates[label(rows[number], told_apart)] = [runs[replicate][1].times for replicate in replicates]
    if not replicates or len(candidates) < len(methods):  # two that the table calls the same
        return None
    advice = recommend([plain[replicate].times for replicate in replicates], candidates)
    number = next(number for number, cell in measured.items() if not cell.is_plain)
    load = ["engine", "model", "dataset", "concurrency", *conditions(told_apart)]
    return advice and {**{name: rows[number][name] for name in load}, **advice}


def of_method(told_apart: Sequence[str]) -> list[str]:
    """Returns those of the fields that belong to the method."""
    return [name for name in told_apart if name.startswith("spec.")]


def conditions(told_apart: Sequence[str]) -> list[str]:
    """Returns those of the fields that say what methods are run on."""
    return [name for name in told_apart if not name.startswith("spec.")]


def label(row: Mapping[str, Any], told_apart: Sequence[str]) -> str:
    """Returns the name of a row's method, with its draft length and what else tells it from others."""
    length = [] if row["draft_length"] is None else [f"K={row['draft_length']}"]
    fields = [name for name in of_method(told_apart) if row.get(name) is not None]
    return " ".join([row["spec"], *length, *(f"{name.removeprefix('spec.')}={row[name]}" for name in fields)])


def method_name(row: Mapping[str, Any], told_apart: Sequence[str]) -> str:
    """Returns the same whatever the draft length."""
    return label({**row, "draft_length": None}, told_apart)
