"""Builds what report.html shows from a sweep's results and its runs."""

import json
import os
import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import UNSET, to_builtins

from specdec_bench import __version__
from specdec_bench.archive import codec, provenance
from specdec_bench.archive.layout import RunDirectory
from specdec_bench.archive.sweep_plan import PLAN, read_plan
from specdec_bench.compare.cell import OutputComparison, SweepResult
from specdec_bench.compare.columns import METRICS, metric_value
from specdec_bench.compare.row import integer_in, job_of, number_in
from specdec_bench.metrics.declarations import BY_NAME
from specdec_bench.records.flatten import flatten
from specdec_bench.records.interval import Interval
from specdec_bench.records.manifest import Manifest, label_of_load
from specdec_bench.report.curves import curve_name, panels
from specdec_bench.report.html.data import Cell, Column, Command, Excerpt, Inspected, Report
from specdec_bench.report.html.details import PERCENTILES, Details, acceptance, round_for_page
from specdec_bench.report.html.verdict import make_verdict

COMPARED = ("speedup_tpot", "speedup_e2e", "speedup_throughput", "ideal_speedup")
FIRST_SHOWN = (
    "speedup_tpot",
    "acceptance_length",
    "output_tps",
    "output_tps_per_user",
    "ttft_ms_p50",
    "tpot_ms_mean",
)
"""The first columns of the table of cells, in their order; the others follow where all are asked for."""
MAX_EXCERPTS = 120
MAX_CELL_CATEGORIES = 60
MAX_CATEGORIES = 2400
"""Of all cells together."""
MAX_VALUE = 300
"""Characters of a setting."""
FEW_PERCENTILES = [0.0, 1.0, *map(float, range(5, 100, 5)), 99.0, 100.0]
MANY_CELLS = 60
"""More cells than this are shown with fewer percentiles."""
Kind = Literal["run", "sweep", "archives"]


def build_report(
    result: SweepResult,
    runs: Mapping[int, RunDirectory],
    details: Mapping[int, Details],
    *,
    root: Path,
    kind: Kind,
) -> Report:
    """Returns the page's data, with every reply that could be shown; `thin_replies` leaves some out.

    Args:
        result: of `compare.rows.collect`.
        runs: by job number.
        details: of the same runs.
        root: the folder that the report is of; the page names folders relative to it.
        kind: what the page is of.
    """
    manifests = {job: run.manifest() for job, run in runs.items()}
    num_categories = max(min(MAX_CELL_CATEGORIES, MAX_CATEGORIES // max(len(runs), 1)), 5)
    percentiles = PERCENTILES if len(runs) <= MANY_CELLS else FEW_PERCENTILES
    settings = {job: _settings(manifest.config) for job, manifest in manifests.items()}
    origins = {job: _origin(manifest) for job, manifest in manifests.items()}
    shared = _shared_settings(settings.values())
    cells = []
    for row in result.rows:
        job = job_of(row)
        known, own = details[job], settings[job]
        cells.append(
            Cell(
                job=job,
                name=curve_name(row, result.varying_fields),
                folder=os.path.relpath(runs[job].path, root),
                spec=str(row["spec"]),
                draft_length=integer_in(row, "draft_length"),
                engine=str(row["engine"]),
                model=str(row["model"]),
                dataset=str(row["dataset"]),
                load=label_of_load(manifests[job]).text,
                load_value=number_in(row, "load_value"),
                replicate=integer_in(row, "replicate") or 0,
                status=str(row["status"]),
                note=str(row["error"] or row.get("not_compared") or ""),
                num_finished=None if known.summary is None else known.summary.requests.finished,
                num_failed=None if known.summary is None else known.summary.requests.failed,
                metrics=_metrics(row, known),
                same_output=_same_output(row),
                acceptance=acceptance(known, max_categories=num_categories),
                quantiles={name: _choose(values, percentiles) for name, values in known.quantiles.items()},
                settings={name: value for name, value in own.items() if name not in shared},
                inspected=known.inspected,
            )
        )
    excerpts, thinned = _excerpts(result.comparisons)
    if any(len(cell.acceptance.by_category) < cell.acceptance.num_categories for cell in cells if cell.acceptance):
        thinned.append(f"Of each cell, the {num_categories} categories with the most requests are shown.")
    if percentiles is FEW_PERCENTILES:
        fewer = f"{len(FEW_PERCENTILES)} percentiles instead of {len(PERCENTILES)}"
        thinned.append(f"Latency has {fewer}, because there are more than {MANY_CELLS} cells.")
    summaries = {job: known.summary for job, known in details.items() if known.summary is not None}
    same, differing = _compare(origins)
    return Report(
        title=_title(cells),
        subtitle=_subtitle(cells, manifests),
        kind=kind,
        created_utc=provenance.utc_now(),
        version=__version__,
        is_synthetic=any(manifest.synthetic for manifest in manifests.values()),
        verdict=make_verdict(result, cells, summaries),
        panels=[_rounded_panel(panel) for panel in panels(result)],
        percentiles=percentiles,
        columns=_columns(cells),
        cells=cells,
        excerpts=excerpts,
        configuration=shared,
        provenance=same,
        differing_provenance=differing,
        commands=_commands(manifests, root, kind),
        thinned=thinned,
    )


def thin_replies(report: Report, budget: int) -> Report:
    """Returns the report with as many replies as fit into this many bytes of JSON.

    Each cell's first reply comes first, then each cell's second, and so on. A reply that does not fit is skipped.
    """
    kept: dict[int, list[Inspected]] = {cell.job: [] for cell in report.cells}
    spent = 0
    for place in range(max((len(cell.inspected) for cell in report.cells), default=0)):
        for cell in report.cells:
            if place < len(cell.inspected):
                size = len(codec.encode_line(cell.inspected[place]))
                if spent + size <= budget:
                    spent += size
                    kept[cell.job].append(cell.inspected[place])
    cells = [msgspec.structs.replace(cell, inspected=kept[cell.job]) for cell in report.cells]
    num_kept = sum(map(len, kept.values()))
    finished = sum(cell.num_finished or 0 for cell in report.cells)
    thinned = list(report.thinned)
    if num_kept < finished:
        thinned.append(
            f"The inspector has {num_kept:,} of {finished:,} replies: of each cell those to the first prompt of each "
            "category, then to the next prompts in their order, as far as the page's size allows. Every metric is "
            "computed from all replies."
        )
    return msgspec.structs.replace(report, cells=cells, thinned=thinned)


def _choose(values: Sequence[float], percentiles: Sequence[float]) -> list[float]:
    """Returns those of the values at `PERCENTILES` that the page shows."""
    wanted = set(percentiles)
    return [float(f"{value:.6g}") for value, at in zip(values, PERCENTILES, strict=True) if at in wanted]


def _metrics(row: Mapping[str, Any], details: Details) -> dict[str, Interval]:
    found = {}
    for name in (*METRICS, *COMPARED):
        value = row.get(name)
        if value is None and row["status"] != "finished" and details.summary is not None and name in METRICS:
            value = metric_value(details.summary, name)
        if value is not None:
            low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
            found[name] = Interval(value=round_for_page(value), low=round_for_page(low), high=round_for_page(high))
    return found


def _rounded_panel(panel: Any) -> Any:
    def rounded_interval(interval: Interval) -> Interval:
        return Interval(
            value=round_for_page(interval.value), low=round_for_page(interval.low), high=round_for_page(interval.high)
        )

    curves = tuple(
        msgspec.structs.replace(
            curve,
            points=tuple(
                msgspec.structs.replace(
                    point, values={name: rounded_interval(value) for name, value in point.values.items()}
                )
                for point in curve.points
            ),
        )
        for curve in panel.curves
    )
    return msgspec.structs.replace(panel, curves=curves)


def _columns(cells: Sequence[Cell]) -> list[Column]:
    defined = {name for cell in cells for name in cell.metrics}
    columns = []
    for name in dict.fromkeys((*FIRST_SHOWN, *METRICS, *COMPARED)):
        if name not in defined:
            continue
        header, better = (
            (METRICS[name].header, METRICS[name].better) if name in METRICS else (BY_NAME[name].header, "maximize")
        )
        columns.append(Column(name=name, header=header or name, better=better, is_shown=name in FIRST_SHOWN))
    return columns


def _same_output(row: Mapping[str, Any]) -> str:
    share, control = row.get("share_identical"), row.get("control_share_identical")
    if share is None:
        return str(row.get("lossless") or "")
    return f"{share:.1%}" + (f" (control {control:.1%})" if control is not None else "")


def _excerpts(comparisons: Mapping[str, OutputComparison]) -> tuple[list[Excerpt], list[str]]:
    outputs = {int(job): found.measured for job, found in comparisons.items() if found.measured is not UNSET}
    divergences = {job: measured.divergences for job, measured in outputs.items()}
    num_different = sum(measured.num_compared - measured.num_identical for measured in outputs.values())
    found: list[Excerpt] = []
    for place in range(max(map(len, divergences.values()), default=0)):
        for job, of_job in sorted(divergences.items()):
            if place < len(of_job) and len(found) < MAX_EXCERPTS:
                one = of_job[place]
                found.append(
                    Excerpt(
                        job=job,
                        prompt_id=one.prompt_id,
                        turn=one.turn,
                        position=one.position,
                        baseline_text=one.baseline_text or None,
                        text=one.text or None,
                    )
                )
    found.sort(key=lambda excerpt: excerpt.job)
    left = num_different - len(found)
    rule = f"{len(found)} of {num_different} differing replies are shown: the first of each cell, then its next ones."
    return found, [rule] if left > 0 else []


def _settings(config: Mapping[str, object]) -> dict[str, str]:
    hidden = ("expected.", "load.arrivals")  # the latter has as many numbers as a trace has arrivals
    return {name: _text(value) for name, value in flatten(config).items() if not name.startswith(hidden)}


def _origin(manifest: Manifest) -> dict[str, str]:
    """Returns what a run was made with: versions, hardware, fingerprints, and what the engine really got."""
    dataset, engine = to_builtins(manifest.dataset), to_builtins(manifest.engine)
    tree: dict[str, object] = {
        "project": manifest.project,
        "environment": manifest.environment,
        "dataset": {key: dataset.get(key) for key in ("sha256", "num_prompts", "num_turns")},
        "engine": {key: engine.get(key) for key in ("arguments", "num_accelerators", "max_seq_len")},
        "checkpoint": {
            role: {"fingerprint": checkpoint.fingerprint} for role, checkpoint in manifest.checkpoints.items()
        },
    }
    return {name: _text(value) for name, value in flatten(tree).items() if value is not None}


def _text(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]} … (cut)"


def _shared_settings(trees: Any) -> dict[str, str]:
    """Returns the fields that have the same value everywhere."""
    first, *others = trees
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}


def _compare(origins: Mapping[int, dict[str, str]]) -> tuple[dict[str, str], dict[str, dict[str, list[int]]]]:
    """Returns the fields that all runs share, and for each other field the jobs by value."""
    same = _shared_settings(origins.values())
    differing: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for name in sorted(set().union(*origins.values()) - same.keys()):
        for job, origin in origins.items():
            differing[name][origin.get(name, "–")].append(job)
    return same, {name: dict(values) for name, values in differing.items()}


def _title(cells: Sequence[Cell]) -> str:
    methods = dict.fromkeys(cell.name if len(cells) == 1 else cell.spec for cell in cells)
    names = ["plain decoding" if name == "none" else name for name in methods]
    return " · ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _subtitle(cells: Sequence[Cell], manifests: Mapping[int, Manifest]) -> str:
    parts = [
        " / ".join(dict.fromkeys(getattr(cell, name) for cell in cells)) for name in ("model", "engine", "dataset")
    ]
    created = sorted(manifest.created_utc[:10] for manifest in manifests.values())
    dates = created[0] if created[0] == created[-1] else f"{created[0]} to {created[-1]}"
    return " · ".join([*parts, f"{len(cells)} runs" if len(cells) > 1 else cells[0].load, dates])


def _commands(manifests: Mapping[int, Manifest], root: Path, kind: Kind) -> list[Command]:
    commands = []
    plan = read_plan(root) if kind == "sweep" and (root / PLAN).is_file() else None
    if plan is not None:
        again = ["python", "run.py", "-m", *plan.overrides, *plan.hydra_overrides]
        commands.append(Command(purpose="Measure the whole sweep again", text=shlex.join(again)))
        commands.append(
            Command(
                purpose="Finish it, if cells are missing", text=shlex.join(["python", "run.py", f"resume={root.name}"])
            )
        )
    elif kind == "run":
        manifest = next(iter(manifests.values()))
        commands.append(Command(purpose="Measure it again", text=shlex.join(["python", "run.py", *manifest.overrides])))
    folder = "RUN_DIR" if kind != "run" else root.name
    commands += [
        Command(
            purpose="Run one archived run again, from its folder alone, and compare",
            text=shlex.join(["specdec-bench", "replay", folder]),
        ),
        Command(
            purpose="Compute the metrics again from the archived requests",
            text=shlex.join(["specdec-bench", "summarize", root.name if kind != "archives" else "DIR"]),
        ),
        Command(
            purpose="Make this page again",
            text=shlex.join(["specdec-bench", "report", root.name if kind != "archives" else "DIR..."]),
        ),
    ]
    return commands
