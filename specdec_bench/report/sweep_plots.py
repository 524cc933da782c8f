"""A sweep's plots."""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from specdec_bench.compare.cell import SweepResult
from specdec_bench.compare.labels import conditions, label, method_name, of_method
from specdec_bench.records.manifest import amount
from specdec_bench.report.run_plots import GREY, legend, nothing, plain, save, tidy
from specdec_bench.report.sweep_table import _value

PLOT = "sweep.png"


COLOURS = ("#2f6db3", "#d9822b", "#3a8f5c", "#8e5bb5", "#b8403d", "#5f8f9e", "#b59a2c", "#c2669a")


MARKERS = "os^Dv<>P"


LINES = ("-", "--", ":", "-.")


def write_sweep_plots(result: SweepResult, folder: Path) -> list[Path]:
    """Draws speedup and throughput per user against the load, and acceptance length against draft length.

    There is one PNG for each engine, model, dataset and kind of load. It has one line for each method, draft length
    and other setting that varies between cells; bands show intervals. A cell that was run several times is shown by
    the values of all its runs.
    """
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    together = {row["job"]: row for row in result.replicates}
    for row in result.rows:
        if row["status"] == "finished" and row["replicate"] == 0:
            names = tuple(row[name] for name in ("engine", "model", "dataset", "load_axis"))
            groups[names].append(row | together.get(row["job"], {}))
    paths = []
    for index, ((*parts, axis), rows) in enumerate(groups.items()):
        methods: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in sorted(rows, key=lambda row: (row["spec"], row["draft_length"] or 0, row["load_value"], row["job"])):
            methods[_line(row, result.varying_fields)].append(row)
        load = result.loads[axis].title
        figure = Figure(figsize=(15, 4.4 + 0.1 * len(methods)), layout="constrained")
        speedups, users, lengths = figure.subplots(1, 3)
        specs = sorted({row["spec"] for row in rows}, key=lambda spec: (spec == "none", spec))
        draft_lengths = sorted({row["draft_length"] or 0 for row in rows})
        colours = {spec: COLOURS[i % len(COLOURS)] for i, spec in enumerate(specs)}
        lines = _line_styles(rows, result.varying_fields)
        styles = {
            name: {
                "color": colours[same[0]["spec"]],
                "marker": MARKERS[draft_lengths.index(same[0]["draft_length"] or 0) % len(MARKERS)],
                "linestyle": lines[_variant(same[0], result.varying_fields)],
            }
            for name, same in methods.items()
        }
        drafted = {name: same for name, same in methods.items() if same[0]["draft_length"] is not None}
        _lines(figure, speedups, drafted, styles, load, "speedup_tpot", "speedup over plain decoding (TPOT)")
        speedups.axhline(1, color=GREY, linewidth=1, linestyle="--")
        _lines(figure, users, methods, styles, load, "output_tps_per_user", "output tokens/s per user")
        _by_draft_length(figure, lengths, rows, colours, result.varying_fields)
        title = " · ".join(parts)
        if any(row.get("synthetic") for row in rows):
            title += " · SYNTHETIC"
        figure.suptitle(plain(title, width=160), fontsize=11)
        paths.append(save(figure, folder / (PLOT if index == 0 else f"sweep-{index + 1}.png")))
    return paths


def _variant(row: dict[str, Any], fields: Sequence[str]) -> tuple[str, ...]:
    return tuple(_value(row[name]) for name in fields)


def _line_styles(rows: Sequence[dict[str, Any]], fields: Sequence[str]) -> dict[tuple[str, ...], str]:
    """Returns a line style for each combination of these fields' values."""
    return dict(zip(sorted({_variant(row, fields) for row in rows}), itertools.cycle(LINES), strict=False))


def _line(row: dict[str, Any], varying_fields: Sequence[str]) -> str:
    """Returns the name of a line: the method, and the conditions of the run that vary."""
    return " ".join(
        [label(row, varying_fields), *(f"{name}={_value(row[name])}" for name in conditions(varying_fields))]
    )


def _lines(
    figure: Figure,
    axes: Any,
    methods: dict[str, list[dict[str, Any]]],
    styles: dict[str, dict[str, str]],
    load: str,
    name: str,
    title: str,
) -> None:
    drawn = False
    loads = sorted({row["load_value"] for rows in methods.values() for row in rows})
    for method, rows in methods.items():
        points = [row for row in rows if row.get(name) is not None]
        if not points:
            continue
        drawn = True
        at = [row["load_value"] for row in points]
        axes.plot(at, [row[name] for row in points], label=plain(method), **styles[method])
        band = [row for row in points if row.get(f"{name}_low") is not None]
        if band:
            low, high = ([row[f"{name}_{end}"] for row in band] for end in ("low", "high"))
            at = [row["load_value"] for row in band]
            axes.fill_between(at, low, high, color=styles[method]["color"], alpha=0.18, linewidth=0)
            # A band of a single point is invisible, but its error bar is not.
            axes.errorbar(
                at,
                [row[name] for row in band],
                yerr=[
                    np.maximum([row[name] - x for row, x in zip(band, low, strict=True)], 0),
                    np.maximum([x - row[name] for row, x in zip(band, high, strict=True)], 0),
                ],
                fmt="none",
                ecolor=styles[method]["color"],
                elinewidth=1,
                capsize=2,
            )
    if not drawn:
        nothing(figure, axes, f"{title}: nothing to compare")
        return
    if len(loads) > 1:
        axes.set_xscale("log", base=2)
    axes.set_xticks(loads, [amount(value) for value in loads])
    axes.minorticks_off()
    axes.set(xlabel=load, ylabel=title)
    legend(axes)
    tidy(axes)


def _by_draft_length(
    figure: Figure,
    axes: Any,
    rows: Sequence[dict[str, Any]],
    colours: dict[str, str],
    varying_fields: Sequence[str],
) -> None:
    """Draws each method's acceptance length at every draft length, one mark and interval for each load."""
    methods: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["draft_length"] is not None and row.get("acceptance_length") is not None:
            methods[method_name(row, varying_fields)].append(row)
    if not methods:
        nothing(figure, axes, "acceptance length: nothing was drafted")
        return
    lines = _line_styles([row for same in methods.values() for row in same], of_method(varying_fields))
    for name, same in sorted(methods.items()):
        by_length: dict[int, list[float]] = defaultdict(list)
        colour, line = colours[same[0]["spec"]], lines[_variant(same[0], of_method(varying_fields))]
        for row in same:
            by_length[row["draft_length"]].append(row["acceptance_length"])
            low, high = row.get("acceptance_length_low"), row.get("acceptance_length_high")
            if low is not None and high is not None:
                axes.vlines(row["draft_length"], low, high, color=colour, linewidth=1, alpha=0.5)
        lengths = sorted(by_length)
        axes.plot(lengths, [np.mean(by_length[k]) for k in lengths], line, color=colour, label=plain(name))
        for k in lengths:
            axes.plot([k] * len(by_length[k]), by_length[k], "o", color=colour, markersize=4)
    axes.set_xticks(sorted({row["draft_length"] for same in methods.values() for row in same}))
    axes.set(xlabel="draft length K", ylabel="acceptance length (tokens per decode step)")
    legend(axes)
    tidy(axes)
