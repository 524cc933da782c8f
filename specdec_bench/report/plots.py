"""The three plots of a run."""

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from specdec_bench.metrics.acceptance import request_acceptance
from specdec_bench.records import RequestRecord, Summary

BLUE, ORANGE, GREY = "#2f6db3", "#d9822b", "#8a8a8a"


def write_plots(summary: Summary, records: Iterable[RequestRecord], folder: Path, *, label: str) -> list[Path]:
    """Draws acceptance by position, acceptance length by category, and step time and TTFT; returns the PNGs' paths."""
    lengths, steps_ms, ttft_ms = _samples(records)
    figures = {
        "acceptance_by_position.png": _by_position(summary["acceptance"]["pooled"]),
        "acceptance_by_category.png": _by_category(summary["acceptance"], lengths),
        "step_time_and_ttft.png": _times(steps_ms if not summary["merged_chunks"] else [], ttft_ms),
    }
    stamp = " · ".join(
        [*(["SYNTHETIC ENGINE"] if summary["synthetic"] else []), *(["PARTIAL RUN"] if summary["partial"] else [])]
    )
    paths = []
    for name, figure in figures.items():
        figure.suptitle(_plain(label), fontsize=11)
        if stamp:
            figure.text(0.5, 0.5, stamp, fontsize=30, color="red", alpha=0.18, ha="center", va="center", rotation=20)
        FigureCanvasAgg(figure)
        figure.savefig(folder / name, dpi=130)
        paths.append(folder / name)
    return paths


def _samples(records: Iterable[RequestRecord]) -> tuple[dict[str, list[float]], list[float], list[float]]:
    lengths: dict[str, list[float]] = defaultdict(list)
    steps_ms: list[float] = []
    ttft_ms: list[float] = []
    for record in records:
        if record.phase != "measure" or record.error is not None or not record.steps or record.sent_ns is None:
            continue
        counts = request_acceptance(record)
        if counts.decode_steps:
            lengths[record.category].append((counts.output_tokens - 1) / counts.decode_steps)
        times = [step.received_ns for step in record.steps]
        ttft_ms.append((times[0] - record.sent_ns) / 1e6)
        steps_ms += [(after - before) / 1e6 for before, after in pairwise(times)]
    return lengths, steps_ms, ttft_ms


def _by_position(pooled: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    joint, conditional = pooled["acceptance_joint"], pooled["acceptance_conditional"]
    if not joint or joint[0] is None:
        return _nothing(figure, axes, "no draft was verified")
    positions = range(1, len(joint) + 1)
    axes.bar(positions, joint, width=0.6, color=BLUE, label="joint: at least i accepted")
    known = [(i, value) for i, value in zip(positions, conditional, strict=True) if value is not None]
    axes.plot(*zip(*known, strict=True), "o-", color=ORANGE, label="conditional: i accepted given i-1")
    axes.set(xlabel="draft position i", ylabel="share of verify steps", ylim=(0, 1.05), xticks=list(positions))
    axes.legend(frameon=False, loc="upper right")
    _tidy(axes)
    return figure


def _by_category(acceptance: dict[str, Any], lengths: dict[str, list[float]]) -> Figure:
    names = sorted(lengths)
    figure = Figure(figsize=(7.5, max(2.6, 1.2 + 0.45 * len(names))), layout="constrained")
    axes = figure.subplots()
    if not names:
        return _nothing(figure, axes, "no request has a decode step")
    axes.boxplot(
        [lengths[name] for name in names],
        orientation="horizontal",
        widths=0.55,
        medianprops={"color": BLUE},
        flierprops={"marker": ".", "markeredgecolor": GREY},
    )
    pooled = [acceptance["by_category"][name]["pooled"]["acceptance_length"] for name in names]
    axes.plot(pooled, range(1, len(names) + 1), "D", color=ORANGE, label="pooled over the category")
    axes.set_yticks(range(1, len(names) + 1), [f"{_plain(name[:28])} ({len(lengths[name])})" for name in names])
    axes.set_xlabel("acceptance length (tokens per decode step); boxes over requests")
    axes.invert_yaxis()
    axes.legend(frameon=False)
    _tidy(axes)
    return figure


def _times(steps_ms: list[float], ttft_ms: list[float]) -> Figure:
    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = (("step time (ms)", "decode steps", steps_ms), ("time to first token (ms)", "requests", ttft_ms))
    for axes, (name, unit, values) in zip(figure.subplots(1, 2), panels, strict=True):
        if not values:
            _nothing(figure, axes, f"{name}: nothing exact to show")
            continue
        ordered = sorted(values)
        # The last percent would squeeze everything else against the axis; it is named instead.
        cut = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
        axes.hist([value for value in ordered if value <= cut], bins=40, color=BLUE, alpha=0.85)
        for share, style in ((0.5, "-"), (0.95, "--")):
            at = ordered[min(len(ordered) - 1, int(share * len(ordered)))]
            axes.axvline(at, color=ORANGE, linestyle=style, label=f"p{share * 100:.0f} {at:.2f} ms")
        axes.plot([], [], " ", label=f"max {ordered[-1]:.2f} ms (not drawn above p99)")
        axes.set(xlabel=name, ylabel=unit)
        axes.legend(frameon=False, fontsize=8)
        _tidy(axes)
    return figure


def _nothing(figure: Figure, axes: Any, text: str) -> Figure:
    axes.axis("off")
    axes.text(0.5, 0.5, text, ha="center", va="center", color=GREY, fontsize=12)
    return figure


def _tidy(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="both", alpha=0.2)


def _plain(text: str) -> str:
    """Keeps matplotlib from reading a dollar sign as mathematics."""
    return text.replace("$", r"\$")
