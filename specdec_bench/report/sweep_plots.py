"""A sweep's plots."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from specdec_bench.compare.cell import SweepResult
from specdec_bench.records.manifest import amount
from specdec_bench.report.curves import Curve, Panel, panels
from specdec_bench.report.palette import COLORS, DASHES, MARKERS, PLAIN
from specdec_bench.report.run_plots import fonts, nothing, plain, save, tidy

PLOT = "sweep.png"
DODGE = 0.32
"""The width over which the methods' marks at one load are spread: marks that coincide stay apart."""


def write_sweep_plots(result: SweepResult, folder: Path) -> list[Path]:
    """Draws speedup and throughput per user against the load, and acceptance length against draft length.

    There is one PNG for each engine, model, dataset and kind of load. It has one line for each method, draft length
    and other setting that varies between cells; bands show intervals. A cell that was run several times is shown by
    the values of all its runs. The legend of all three plots is below them.
    """
    paths = []
    for index, panel in enumerate(panels(result)):
        with fonts():
            path = folder / (PLOT if index == 0 else f"sweep-{index + 1}.png")
            paths.append(save(_figure(panel), path))
    return paths


def _figure(panel: Panel) -> Figure:
    curves = panel.curves
    figure = Figure(figsize=(15, 5 + 0.1 * len(curves)), layout="constrained")
    speedups, users, lengths = figure.subplots(1, 3)
    drafted = [curve for curve in curves if curve.draft_length is not None]
    _against_load(figure, speedups, drafted, panel, "speedup_tpot", "speedup over plain decoding (TPOT)")
    if speedups.axison:
        speedups.axhline(1, color=PLAIN, linewidth=1, linestyle="--", zorder=0)
    _against_load(figure, users, curves, panel, "output_tps_per_user", "output tokens/s per user")
    _against_draft_length(figure, lengths, [curve for curve in drafted if curve.has_one_length])
    figure.suptitle(plain(panel.title + (" · SYNTHETIC" if panel.is_synthetic else ""), width=160), fontsize=11)
    _legend(figure, curves)
    return figure


def _style(curve: Curve) -> dict[str, Any]:
    return {
        "color": PLAIN if curve.color is None else COLORS[curve.color % len(COLORS)],
        "marker": MARKERS[curve.marker % len(MARKERS)],
        "linestyle": DASHES[curve.dash % len(DASHES)],
        "markerfacecolor": "white",
        "linewidth": 1.4,
    }


def side_by_side_offset(number: int, count: int) -> float:
    """Returns how far to the side the marks of one of several curves are drawn, as a part of the space of a load."""
    return 0.0 if count < 2 else DODGE * (number / (count - 1) - 0.5)


def _against_load(figure: Figure, axes: Any, curves: Sequence[Curve], panel: Panel, metric: str, title: str) -> None:
    loads = sorted({point.load for curve in panel.curves for point in curve.points if point.load is not None})
    shown = [(curve, _points(curve, metric)) for curve in curves]
    shown = [(curve, points) for curve, points in shown if points]
    if not shown:
        nothing(figure, axes, f"{title}: nothing to compare")
        return
    for number, (curve, points) in enumerate(shown):
        style = _style(curve)
        at = [loads.index(load) + side_by_side_offset(number, len(shown)) for load, _, _, _ in points]
        axes.plot(at, [value for _, value, _, _ in points], **style)
        known = [(x, value, low, high) for x, (_, value, low, high) in zip(at, points, strict=True) if low is not None]
        if known:
            x, values, low, high = map(np.array, zip(*known, strict=True))
            axes.fill_between(x, low, high, color=style["color"], alpha=0.12, linewidth=0)
            # A band of a single point is invisible, but its error bar is not.
            # One array: of a list of arrays, matplotlib takes each for a number.
            ends = np.maximum([values - low, high - values], 0)
            axes.errorbar(x, values, yerr=ends, fmt="none", ecolor=style["color"], elinewidth=1, capsize=2)
    axes.set_xticks(range(len(loads)), [amount(value) for value in loads])
    axes.set_xlim(-0.5, len(loads) - 0.5)
    axes.set(xlabel=panel.load.title, ylabel=title)
    tidy(axes)


def _points(curve: Curve, metric: str) -> list[tuple[float, float, float | None, float | None]]:
    """Returns load, value and ends of the interval of each point that has the metric."""
    found = []
    for point in curve.points:
        interval = point.values.get(metric)
        if interval is not None and interval.value is not None and point.load is not None:
            found.append((point.load, interval.value, interval.low, interval.high))
    return found


def _against_draft_length(figure: Figure, axes: Any, curves: Sequence[Curve]) -> None:
    """Draws each method's acceptance length at every draft length, one mark and interval for each load."""
    methods: dict[tuple[Any, ...], list[tuple[Curve, list[Any]]]] = defaultdict(list)
    for curve in curves:
        if points := _points(curve, "acceptance_length"):
            methods[curve.spec, curve.color, curve.dash].append((curve, points))
    if not methods:
        nothing(figure, axes, "acceptance length: nothing was drafted at one draft length")
        return
    for number, same in enumerate(methods.values()):
        aside = side_by_side_offset(number, len(methods))
        means: dict[int, list[float]] = defaultdict(list)
        for curve, points in same:
            assert curve.draft_length is not None
            means[curve.draft_length] += [value for _, value, _, _ in points]
            style = _style(curve)
            at = curve.draft_length + aside
            axes.plot([at] * len(points), [value for _, value, _, _ in points], **(style | {"linestyle": ""}))
            for _, _, low, high in points:
                if low is not None:
                    axes.vlines(at, low, high, color=style["color"], linewidth=1, alpha=0.5)
        line = {key: value for key, value in _style(same[0][0]).items() if not key.startswith("marker")}
        axes.plot([length + aside for length in sorted(means)], [np.mean(means[k]) for k in sorted(means)], **line)
    drafted = sorted({curve.draft_length for curve in curves if curve.draft_length is not None})
    axes.set_xticks(drafted)
    axes.set_xlim(drafted[0] - 0.5, drafted[-1] + 0.5)  # the marks of one draft length would fill the axes
    axes.set(xlabel="draft length K", ylabel="acceptance length (tokens per decode step)")
    tidy(axes)


def _legend(figure: Figure, curves: Sequence[Curve]) -> None:
    """Adds the one legend of all plots below them."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], label=plain(curve.label), **_style(curve)) for curve in curves]
    longest = max((len(line) for curve in curves for line in plain(curve.label).splitlines()), default=1)
    columns = max(min(len(handles), 180 // (longest + 8)), 1)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
