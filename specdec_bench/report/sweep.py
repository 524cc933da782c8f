"""A sweep's tables and plots."""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pandas.api.types import is_object_dtype, is_string_dtype
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from specdec_bench.archive import codec, files
from specdec_bench.report.plots import GREY, legend, nothing, plain, save, tidy
from specdec_bench.report.table import number, print_whole
from specdec_bench.report.text import defused, literal
from specdec_bench.sweep.labels import conditions, label, method_name, of_method
from specdec_bench.sweep.results import SweepResult

TABLE, REPLICATES, COMPARISON = "sweep", "replicates", "comparison.json"
OF_SINGLE_RUNS = (
    "Intervals are of single runs: how much this machine's speed differs from run to run is not in them; "
    "replicate=range(0,5) order=replicates puts it there."
)
PLOT = "sweep.png"
COLOURS = ("#2f6db3", "#d9822b", "#3a8f5c", "#8e5bb5", "#b8403d", "#5f8f9e", "#b59a2c", "#c2669a")
MARKERS = "os^Dv<>P"
LINES = ("-", "--", ":", "-.")


def write_tables(result: SweepResult, folder: Path) -> None:
    """Writes the tables and the comparison of outputs.

    sweep.parquet and sweep.csv have one row a cell; replicates.parquet and replicates.csv one for all runs of a cell,
    if any was run several times; comparison.json has the divergences of outputs.
    """
    for name, rows in ((TABLE, result.rows), (REPLICATES, result.replicates)):
        if rows:
            frame = pd.DataFrame(rows).convert_dtypes()
            for column in [key for key in frame if is_object_dtype(frame[key])]:  # `auto` in one cell, 3 in another
                frame[column] = frame[column].map(str, na_action="ignore")
            files.write_atomically(folder / f"{name}.csv", [_defused(frame).to_csv(index=False).encode()])
            files.write_atomically(folder / f"{name}.parquet", [frame.to_parquet(index=False)])
    comparison = {"recommendations": result.recommendations, "cells": result.comparisons}
    files.write_atomically(folder / COMPARISON, [codec.encode_document(comparison)])


def _defused(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the table as a spreadsheet may open it: its texts and headers are no formulas."""
    texts = [key for key in frame if is_string_dtype(frame[key])]
    inert = frame.assign(**{str(key): frame[key].map(defused, na_action="ignore") for key in texts})
    return inert.rename(columns=defused)


def print_sweep(result: SweepResult, console: Console, *, path: str) -> None:
    """Prints one line a cell, what is recommended at each load, and where the tables are."""
    rows = result.rows
    unfinished = [row for row in rows if row["status"] != "finished"]
    if unfinished:
        console.print(Text(f"{len(unfinished)} of {len(rows)} cells have no figures:", style="bold red"))
    for row in unfinished:
        why = f": {row['error']}" if row["error"] else ""
        console.print(Text(literal(f"  job {row['job']} {row['status']}{why}"), style="bold red"), soft_wrap=True)
    for reason in sorted({row["not_compared"] for row in rows if row.get("not_compared")}):
        console.print(Text(literal(f"NOT COMPARED with the plain run: {reason}"), style="bold red"), soft_wrap=True)
    if stamps := {row["synthetic"] for row in rows if row.get("synthetic")}:
        console.print(Text(literal(f"SYNTHETIC: {', '.join(sorted(stamps))}"), style="bold red"), soft_wrap=True)
    several = _several(rows, ("engine", "model", "dataset")) + conditions(result.told_apart)
    shown = several + _several(rows, ("replicate",))
    table = Table(box=box.SIMPLE_HEAD)
    for header in ("job", *shown, "method"):
        table.add_column(Text(literal(header)), overflow="fold")
    headers = ("in flight", "acceptance length", "tokens/s", "per user", "TTFT p50", "speedup (TPOT)", "same output")
    for header in headers:
        table.add_column(header, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            str(row["job"]),
            *(Text(literal(_value(row[name]))) for name in shown),
            Text(literal(label(row, result.told_apart))),
            str(row["concurrency"]),
            _with_interval(row, "acceptance_length"),
            number(row.get("output_tps"), 1),
            number(row.get("output_tps_per_user"), 1),
            number(row.get("ttft_ms_p50"), 1),
            _with_interval(row, "speedup_tpot"),
            _same_output(row),
        )
    print_whole(console, table)
    if result.replicates:
        print_whole(console, _replicates_table(result))
    elif any(row.get("speedup_tpot_low") is not None for row in rows):
        console.print(Text(OF_SINGLE_RUNS, style="dim"), soft_wrap=True)
    for advice in result.recommendations:
        console.print(Text(literal(_advice(advice, several))), soft_wrap=True)
    console.print(Text(f"sweep directory  {literal(path)}"), soft_wrap=True)


def _several(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> list[str]:
    """Returns the columns that do not have the same value in all rows."""
    return [name for name in names if len({row[name] for row in rows}) > 1]


def _value(value: Any) -> str:
    return "–" if value is None else str(value)


def _replicates_table(result: SweepResult) -> Table:
    """Returns one line for all runs of a cell: what the runs differ in is in its intervals."""
    rows = result.replicates
    several = _several(rows, ("engine", "model", "dataset")) + conditions(result.told_apart)
    table = Table(box=box.SIMPLE_HEAD, title="several runs of a cell together", title_justify="left")
    for header in (*several, "method"):
        table.add_column(Text(literal(header)), overflow="fold")
    for header in ("in flight", "runs", "acceptance length", "tokens/s", "speedup (TPOT)", "speedup (throughput)"):
        table.add_column(header, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            *(Text(literal(_value(row[name]))) for name in several),
            Text(literal(label(row, result.told_apart))),
            str(row["concurrency"]),
            str(row["num_runs"]),
            _with_interval(row, "acceptance_length"),
            _with_interval(row, "output_tps", 1),
            *(_with_interval(row, name) for name in ("speedup_tpot", "speedup_throughput")),
        )
    return table


def _with_interval(row: dict[str, Any], name: str, digits: int = 2) -> str:
    value, low, high = row.get(name), row.get(f"{name}_low"), row.get(f"{name}_high")
    interval = f" [{low:,.{digits}f}, {high:,.{digits}f}]" if low is not None and high is not None else ""
    return number(value, digits) + interval


def _same_output(row: dict[str, Any]) -> str:
    share, control = row.get("share_identical"), row.get("control_share_identical")
    if share is None:
        return "–" if row.get("lossless") is None else "not checked"
    return f"{share:.1%}" + (f" (control {control:.1%})" if control is not None else "")


def _advice(advice: dict[str, Any], several: Sequence[str]) -> str:
    where = [f"{name}={_value(advice[name])}" for name in several]
    at = ", ".join([f"{advice['concurrency']} in flight", *where]) + ": "
    if advice["not_judged"]:
        return f"{at}which is fastest is not judged: {advice['not_judged']}"
    ratio = advice["over_runner_up"]
    interval = "no interval" if ratio["low"] is None else f"95% {ratio['low']:.3f} to {ratio['high']:.3f}"
    names = {"none": "plain decoding"}
    best, second = (names.get(advice[name], advice[name]) for name in ("best", "runner_up"))
    if advice["tied"]:
        tied = ", ".join(names.get(name, name) for name in advice["tied"])
        return f"{at}a tie of {best} and {tied} (ratio to {second} {ratio['value']:.3f}, {interval})"
    return (
        f"{at}{best} is the fastest, {ratio['value']:.3f} times as fast as {second} ({interval}, paired); "
        f"{advice['num_runs']} runs of each, corrected for {len(advice['p_values'])} comparisons"
    )


def write_sweep_plots(result: SweepResult, folder: Path) -> list[Path]:
    """Draws speedup and throughput per user against concurrency, and acceptance length against draft length.

    One PNG for each engine, model and dataset; one line for each method, draft length and whatever else tells cells
    apart, intervals as bands. Where a cell was run several times, the figures of all its runs.
    """
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    together = {row["job"]: row for row in result.replicates}
    for row in result.rows:
        if row["status"] == "finished" and row["replicate"] == 0:
            groups[row["engine"], row["model"], row["dataset"]].append(row | together.get(row["job"], {}))
    paths = []
    for index, (names, rows) in enumerate(groups.items()):
        methods: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in sorted(
            rows, key=lambda row: (row["spec"], row["draft_length"] or 0, row["concurrency"], row["job"])
        ):
            methods[_line(row, result.told_apart)].append(row)
        figure = Figure(figsize=(15, 4.4 + 0.1 * len(methods)), layout="constrained")
        speedups, users, lengths = figure.subplots(1, 3)
        specs = sorted({row["spec"] for row in rows}, key=lambda spec: (spec == "none", spec))
        draft_lengths = sorted({row["draft_length"] or 0 for row in rows})
        colours = {spec: COLOURS[i % len(COLOURS)] for i, spec in enumerate(specs)}
        lines = _line_styles(rows, result.told_apart)
        styles = {
            name: {
                "color": colours[same[0]["spec"]],
                "marker": MARKERS[draft_lengths.index(same[0]["draft_length"] or 0) % len(MARKERS)],
                "linestyle": lines[_variant(same[0], result.told_apart)],
            }
            for name, same in methods.items()
        }
        drafted = {name: same for name, same in methods.items() if same[0]["draft_length"] is not None}
        _lines(figure, speedups, drafted, styles, "speedup_tpot", "speedup over plain decoding (TPOT)")
        speedups.axhline(1, color=GREY, linewidth=1, linestyle="--")
        _lines(figure, users, methods, styles, "output_tps_per_user", "output tokens/s per user")
        _by_draft_length(figure, lengths, rows, colours, result.told_apart)
        title = " · ".join(names)
        if any(row.get("synthetic") for row in rows):
            title += " · SYNTHETIC"
        figure.suptitle(plain(title, width=160), fontsize=11)
        paths.append(save(figure, folder / (PLOT if index == 0 else f"sweep-{index + 1}.png")))
    return paths


def _variant(row: dict[str, Any], fields: Sequence[str]) -> tuple[str, ...]:
    return tuple(_value(row[name]) for name in fields)


def _line_styles(rows: Sequence[dict[str, Any]], fields: Sequence[str]) -> dict[tuple[str, ...], str]:
    """Returns how lines are drawn, by the values of these fields."""
    return dict(zip(sorted({_variant(row, fields) for row in rows}), itertools.cycle(LINES), strict=False))


def _line(row: dict[str, Any], told_apart: Sequence[str]) -> str:
    """Returns what a line is called: the method and what it was run on, where that differs."""
    return " ".join([label(row, told_apart), *(f"{name}={_value(row[name])}" for name in conditions(told_apart))])


def _lines(
    figure: Figure,
    axes: Any,
    methods: dict[str, list[dict[str, Any]]],
    styles: dict[str, dict[str, str]],
    name: str,
    title: str,
) -> None:
    drawn = False
    concurrencies = sorted({row["concurrency"] for rows in methods.values() for row in rows})
    for method, rows in methods.items():
        points = [row for row in rows if row.get(name) is not None]
        if not points:
            continue
        drawn = True
        at = [row["concurrency"] for row in points]
        axes.plot(at, [row[name] for row in points], label=plain(method), **styles[method])
        band = [row for row in points if row.get(f"{name}_low") is not None]
        if band:
            low, high = ([row[f"{name}_{end}"] for row in band] for end in ("low", "high"))
            at = [row["concurrency"] for row in band]
            axes.fill_between(at, low, high, color=styles[method]["color"], alpha=0.18, linewidth=0)
            # A band of a single point is no band.
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
    if len(concurrencies) > 1:
        axes.set_xscale("log", base=2)
    axes.set_xticks(concurrencies, [str(value) for value in concurrencies])
    axes.minorticks_off()
    axes.set(xlabel="requests in flight", ylabel=title)
    legend(axes)
    tidy(axes)


def _by_draft_length(
    figure: Figure,
    axes: Any,
    rows: Sequence[dict[str, Any]],
    colours: dict[str, str],
    told_apart: Sequence[str],
) -> None:
    """Draws each method's acceptance length at every draft length, one mark and interval for each load."""
    methods: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["draft_length"] is not None and row.get("acceptance_length") is not None:
            methods[method_name(row, told_apart)].append(row)
    if not methods:
        nothing(figure, axes, "acceptance length: nothing was drafted")
        return
    lines = _line_styles([row for same in methods.values() for row in same], of_method(told_apart))
    for name, same in sorted(methods.items()):
        by_length: dict[int, list[float]] = defaultdict(list)
        colour, line = colours[same[0]["spec"]], lines[_variant(same[0], of_method(told_apart))]
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
