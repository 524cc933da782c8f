"""A sweep's tables, in files and on the terminal."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import is_object_dtype, is_string_dtype
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from specdec_bench.archive import codec, files
from specdec_bench.compare.cell import Recommendation, SweepResult
from specdec_bench.compare.columns import METRICS
from specdec_bench.compare.labels import conditions, label
from specdec_bench.compare.row import number_in, text_in
from specdec_bench.compare.speedup import NotJudged
from specdec_bench.metrics.declarations import BY_NAME
from specdec_bench.records.manifest import LoadLabel, amount
from specdec_bench.report.run_table import number, print_whole
from specdec_bench.report.text import defuse, literal

TABLE, REPLICATES, COMPARISON = "sweep", "replicates", "comparison.json"

SHOWN = (
    "acceptance_length",
    "output_tps",
    "output_tps_per_user",
    "ttft_ms_p50",
    "speedup_tpot",
    "share_identical",
)
"""The metrics of the table on the terminal."""
SHOWN_OF_REPLICATES = ("acceptance_length", "output_tps", "speedup_tpot", "speedup_throughput")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


SHOWN_IF_KNOWN: dict[str, Callable[[float | None], str]] = {
    "goodput": lambda value: number(value, 2),
    "share_within_slo": _percent,
    "energy_per_token_j": lambda value: number(value, 3),
    "cost_per_million_tokens": lambda value: number(value, 3),
}
"""Shown too if any cell has them: how each is written."""

OF_SINGLE_RUNS = (
    "Intervals are of single runs and do not include how much the speed varies from run to run; "
    "replicate=range(0,5) order=replicates measures that."
)


def write_tables(result: SweepResult, folder: Path) -> None:
    """Writes the tables and the comparison of outputs.

    sweep.parquet and sweep.csv have one row per cell. If any cell was run several times, replicates.parquet and
    replicates.csv have one row for all runs of a cell. comparison.json has the divergences of outputs.
    """
    for name, rows in ((TABLE, result.rows), (REPLICATES, result.replicates)):
        if rows:
            frame = pd.DataFrame(rows).convert_dtypes()
            for column in [key for key in frame if is_object_dtype(frame[key])]:  # `auto` in one cell, 3 in another
                frame[column] = frame[column].map(str, na_action="ignore")
            files.write_atomically(folder / f"{name}.csv", [_defuse(frame).to_csv(index=False).encode()])
            files.write_atomically(folder / f"{name}.parquet", [frame.to_parquet(index=False)])
    comparison = {"recommendations": [found.as_tree() for found in result.recommendations], "cells": result.comparisons}
    files.write_atomically(folder / COMPARISON, [codec.encode_document(comparison)])


def _defuse(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the table made safe for spreadsheets, which take none of its texts and headers for formulas."""
    texts = [key for key in frame if is_string_dtype(frame[key])]
    inert = frame.assign(**{str(key): frame[key].map(defuse, na_action="ignore") for key in texts})
    return inert.rename(columns=defuse)


def print_sweep(result: SweepResult, console: Console, *, path: str) -> None:
    """Prints one line per cell, the recommendation at each load, and the folder of the tables."""
    rows = result.rows
    unfinished = [row for row in rows if row["status"] != "finished"]
    if unfinished:
        console.print(Text(f"{len(unfinished)} of {len(rows)} cells have no metrics:", style="bold red"))
    for row in unfinished:
        why = f": {row['error']}" if row["error"] else ""
        console.print(Text(literal(f"  job {row['job']} {row['status']}{why}"), style="bold red"), soft_wrap=True)
    for reason in sorted({reason for row in rows if (reason := text_in(row, "not_compared"))}):
        console.print(Text(literal(f"NOT COMPARED with the plain run: {reason}"), style="bold red"), soft_wrap=True)
    for line in _caveats(rows):
        console.print(Text(literal(line), style="bold red"), soft_wrap=True)
    if stamps := {stamp for row in rows if (stamp := text_in(row, "synthetic"))}:
        console.print(Text(literal(f"SYNTHETIC: {', '.join(sorted(stamps))}"), style="bold red"), soft_wrap=True)
    several = _several(rows, ("engine", "model", "dataset")) + conditions(result.varying_fields)
    shown = several + _several(rows, ("replicate",))
    table = Table(box=box.SIMPLE_HEAD)
    for header in ("job", *shown, "method"):
        table.add_column(Text(literal(header)), overflow="fold")
    known = [name for name in SHOWN_IF_KNOWN if any(row.get(name) is not None for row in rows)]
    for header in (_load_header(result), *map(_header, (*SHOWN, *known))):
        table.add_column(header, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            str(row["job"]),
            *(Text(literal(_value(row[name]))) for name in shown),
            Text(literal(label(row, result.varying_fields))),
            _load(row, result),
            _with_interval(row, "acceptance_length"),
            number(number_in(row, "output_tps"), 1),
            number(number_in(row, "output_tps_per_user"), 1),
            number(number_in(row, "ttft_ms_p50"), 1),
            _with_interval(row, "speedup_tpot"),
            _same_output(row),
            *(SHOWN_IF_KNOWN[name](number_in(row, name)) for name in known),
        )
    print_whole(console, table)
    if result.replicates:
        print_whole(console, _replicates_table(result))
    elif any(row.get("speedup_tpot_low") is not None for row in rows):
        console.print(Text(OF_SINGLE_RUNS, style="dim"), soft_wrap=True)
    for recommendation in result.recommendations:
        console.print(Text(literal(_advice(recommendation, several, result.loads))), soft_wrap=True)
    console.print(Text(f"sweep directory  {literal(path)}"), soft_wrap=True)


def _caveats(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Returns a line for each caveat on speedups, with the jobs that it holds for."""
    jobs: dict[str, list[str]] = {}
    for row in rows:
        if caveat := row.get("speedup_caveat"):
            jobs.setdefault(caveat, []).append(str(row["job"]))
    return [f"speedup of job {', '.join(numbers)}: {caveat}" for caveat, numbers in jobs.items()]


def _header(name: str) -> str:
    return METRICS[name].header if name in METRICS else BY_NAME[name].header


def _several(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> list[str]:
    """Returns the columns that do not have the same value in all rows."""
    return [name for name in names if len({row[name] for row in rows}) > 1]


def _load_header(result: SweepResult) -> str:
    """Returns the header of the load column: the unit, if all rows have the same one."""
    units = {load.unit for load in result.loads.values()}
    return units.pop() if len(units) == 1 else "load"


def _load(row: dict[str, Any], result: SweepResult) -> str:
    value = amount(row["load_value"])
    return value if len(result.loads) == 1 else f"{value} {result.loads[row['load_axis']].unit}"


def _value(value: Any) -> str:
    return "–" if value is None else str(value)


def _replicates_table(result: SweepResult) -> Table:
    """Returns a table with one line for all runs of a cell. Its intervals include the differences between runs."""
    rows = result.replicates
    several = _several(rows, ("engine", "model", "dataset")) + conditions(result.varying_fields)
    table = Table(box=box.SIMPLE_HEAD, title="several runs of a cell together", title_justify="left")
    for header in (*several, "method"):
        table.add_column(Text(literal(header)), overflow="fold")
    for header in (_load_header(result), "runs", *map(_header, SHOWN_OF_REPLICATES)):
        table.add_column(header, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            *(Text(literal(_value(row[name]))) for name in several),
            Text(literal(label(row, result.varying_fields))),
            _load(row, result),
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


def _advice(recommendation: Recommendation, several: Sequence[str], loads: Mapping[str, LoadLabel]) -> str:
    load, advice = recommendation.load, recommendation.advice
    where = [f"{name}={_value(load[name])}" for name in several]
    value = load["load_value"]
    how_much = amount(value if isinstance(value, int | float) else None)
    at = ", ".join([f"{how_much} {loads[str(load['load_axis'])].unit}", *where]) + ": "
    if isinstance(advice, NotJudged):
        return f"{at}which is fastest is not judged: {advice.not_judged}"
    ratio = advice.over_runner_up
    interval = "no interval" if ratio.low is None else f"95% {ratio.low:.3f} to {ratio.high:.3f}"
    names = {"none": "plain decoding"}
    best, second = (names.get(name, name) for name in (advice.best, advice.runner_up))
    if advice.tied:
        tied = ", ".join(names.get(name, name) for name in advice.tied)
        return f"{at}{best} and {tied} are tied (ratio to {second} {ratio.value:.3f}, {interval})"
    return (
        f"{at}{best} is the fastest, {ratio.value:.3f} times as fast as {second} ({interval}, paired); "
        f"{advice.num_runs} runs of each, corrected for {len(advice.p_values)} comparisons"
    )
