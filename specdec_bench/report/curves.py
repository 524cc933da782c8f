"""A sweep's curves against the load, from which the plot and the page are drawn alike."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from specdec_bench.compare.cell import SweepResult
from specdec_bench.compare.labels import conditions, label
from specdec_bench.records.interval import Interval
from specdec_bench.records.manifest import LoadLabel
from specdec_bench.records.request import Record

SHOWN = (
    "speedup_tpot",
    "speedup_e2e",
    "speedup_throughput",
    "output_tps_per_user",
    "output_tps",
    "ttft_ms_p50",
    "tpot_ms_mean",
    "acceptance_length",
)
"""The metrics of a point, by their columns in the sweep's table."""


class Point(Record, frozen=True, kw_only=True):
    """One cell, or all runs of a cell together."""

    job: int
    load: float | None
    num_runs: int
    values: dict[str, Interval]
    """By the names in `SHOWN`; without those that are undefined."""


class Curve(Record, frozen=True, kw_only=True):
    """One method with its draft length, and whatever else varies between cells, at every load."""

    label: str
    spec: str
    draft_length: int | None
    has_one_length: bool
    """The draft length did not follow the batch size."""
    color: int | None
    """The number of the colour, one for each method; None for plain decoding."""
    marker: int
    """The number of the marker, one for each draft length."""
    dash: int
    """The number of the line's pattern, one for each combination of the other settings."""
    points: tuple[Point, ...]


class Panel(Record, frozen=True, kw_only=True):
    """The curves of one engine, model, dataset and kind of load."""

    title: str
    load: LoadLabel
    is_synthetic: bool
    curves: tuple[Curve, ...]


def panels(result: SweepResult) -> list[Panel]:
    """Returns the sweep's curves. A cell that was run several times is one point, with the values of all its runs."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    together = {row["job"]: row for row in result.replicates}
    for row in result.rows:
        if row["status"] == "finished" and row["replicate"] == 0:
            names = tuple(row[name] for name in ("engine", "model", "dataset", "load_axis"))
            groups[names].append(row | together.get(row["job"], {}))
    return [
        Panel(
            title=" · ".join(map(str, parts)),
            load=result.loads[axis],
            is_synthetic=any(row.get("synthetic") for row in rows),
            curves=tuple(_curves(rows, result.varying_fields)),
        )
        for (*parts, axis), rows in groups.items()
    ]


def curve_name(row: dict[str, Any], varying_fields: Sequence[str]) -> str:
    """Returns the name of a curve: the method, and the conditions of the run that vary."""
    others = [f"{name}={_text(row[name])}" for name in conditions(varying_fields)]
    return " ".join([label(row, varying_fields), *others])


def _curves(rows: Sequence[dict[str, Any]], varying_fields: Sequence[str]) -> list[Curve]:
    methods: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in sorted(rows, key=_place):
        methods[curve_name(row, varying_fields)].append(row)
    specs = sorted({row["spec"] for row in rows} - {"none"})
    lengths = sorted({_length(row) for row in rows})
    variants = sorted({_variant(row, varying_fields) for row in rows})
    return [
        Curve(
            label=name,
            spec=same[0]["spec"],
            draft_length=same[0]["draft_length"],
            has_one_length=same[0].get("draft_lengths") is None,
            color=None if same[0]["spec"] == "none" else specs.index(same[0]["spec"]),
            marker=lengths.index(_length(same[0])),
            dash=variants.index(_variant(same[0], varying_fields)),
            points=tuple(map(_point, same)),
        )
        for name, same in methods.items()
    ]


def _length(row: dict[str, Any]) -> tuple[int, str]:
    return row["draft_length"] or 0, row.get("draft_lengths") or ""


def _place(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["spec"] != "none", row["spec"], *_length(row), row["load_value"] or 0, row["job"]


def _variant(row: dict[str, Any], varying_fields: Sequence[str]) -> tuple[str, ...]:
    return tuple(_text(row[name]) for name in varying_fields)


def _point(row: dict[str, Any]) -> Point:
    values = {
        name: Interval(value=row[name], low=row.get(f"{name}_low"), high=row.get(f"{name}_high"))
        for name in SHOWN
        if row.get(name) is not None
    }
    return Point(job=row["job"], load=row["load_value"], num_runs=row.get("num_runs", 1), values=values)


def _text(value: object) -> str:
    return "–" if value is None else str(value)
