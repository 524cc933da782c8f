"""The three plots of a run."""

import contextlib
import io
import textwrap
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import font_manager, rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from specdec_bench.archive import files
from specdec_bench.metrics.summary import Samples
from specdec_bench.records.summary import Acceptance, PooledAcceptance, Summary
from specdec_bench.report.palette import COLORS, PLAIN
from specdec_bench.report.text import literal

BLUE, ORANGE, GREY = COLORS[0], COLORS[1], PLAIN
CJK_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "IPAGothic",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
)
"""Fonts with Chinese, Japanese and Korean characters, which matplotlib's own font lacks."""


def write_plots(summary: Summary, samples: Samples, folder: Path, *, label: str) -> list[Path]:
    """Draws acceptance by position, acceptance length by category, and step time and TTFT; returns the PNGs' paths."""
    steps_ms, ttft_ms = samples.timings.samples_ms()
    with fonts():
        return _write_plots(summary, samples, folder, label, steps_ms, ttft_ms)


def _write_plots(
    summary: Summary, samples: Samples, folder: Path, label: str, steps_ms: np.ndarray, ttft_ms: np.ndarray
) -> list[Path]:
    figures = {
        "acceptance_by_position.png": _by_position(summary.acceptance.pooled),
        "acceptance_by_category.png": _by_category(summary.acceptance, _lengths(samples)),
        "step_time_and_ttft.png": _times(steps_ms, ttft_ms),
    }
    stamp = " · ".join(
        [*(["SYNTHETIC ENGINE"] if summary.synthetic else []), *(["PARTIAL RUN"] if summary.partial else [])]
    )
    paths = []
    for name, figure in figures.items():
        figure.suptitle(plain(label, width=75), fontsize=11)
        if stamp:
            figure.text(0.5, 0.5, stamp, fontsize=30, color="red", alpha=0.18, ha="center", va="center", rotation=20)
        paths.append(save(figure, folder / name))
    return paths


@contextlib.contextmanager
def fonts() -> Iterator[None]:
    """Lets text fall back on fonts for Chinese, Japanese and Korean within the block, as far as they are installed."""
    installed = set(font_manager.get_font_names())
    names = ["DejaVu Sans", *(name for name in CJK_FONTS if name in installed)]
    with rc_context({"font.family": names}):
        yield


def _lengths(samples: Samples) -> dict[str, list[float]]:
    """Returns the acceptance length of each request, by category."""
    lengths: dict[str, list[float]] = defaultdict(list)
    for category, counts in zip(samples.categories, samples.acceptance, strict=True):
        if counts.decode_steps:
            lengths[category].append((counts.output_tokens - 1) / counts.decode_steps)
    return lengths


def _by_position(pooled: PooledAcceptance) -> Figure:
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    joint, conditional = pooled.acceptance_joint, pooled.acceptance_conditional
    if not joint or joint[0] is None:
        return nothing(
            figure, axes, "not known for one draft length" if pooled.verify_steps else "no draft was verified"
        )
    positions = range(1, len(joint) + 1)
    axes.bar(positions, np.array(joint, dtype=float), width=0.6, color=BLUE, label="joint: at least i accepted")
    known = [(i, value) for i, value in zip(positions, conditional or (), strict=True) if value is not None]
    axes.plot(*zip(*known, strict=True), "o-", color=ORANGE, label="conditional: i accepted given i-1")
    axes.set(xlabel="draft position i", ylabel="share of verify steps", ylim=(0, 1.05), xticks=list(positions))
    legend(axes)
    tidy(axes)
    return figure


def _by_category(acceptance: Acceptance, lengths: dict[str, list[float]]) -> Figure:
    names = sorted(lengths)
    figure = Figure(figsize=(7.5, max(2.6, 1.2 + 0.45 * len(names))), layout="constrained")
    axes = figure.subplots()
    if not names:
        return nothing(figure, axes, "no request has a decode step")
    axes.boxplot(
        [lengths[name] for name in names],
        orientation="horizontal",
        widths=0.55,
        medianprops={"color": BLUE},
        flierprops={"marker": ".", "markeredgecolor": GREY},
    )
    pooled = [acceptance.by_category[name].pooled.acceptance_length for name in names]
    axes.plot(
        np.array(pooled, dtype=float), range(1, len(names) + 1), "D", color=ORANGE, label="pooled over the category"
    )
    axes.set_yticks(range(1, len(names) + 1), [f"{plain(name[:28])} ({len(lengths[name])})" for name in names])
    axes.set_xlabel("acceptance length (tokens per decode step); boxes over requests")
    axes.invert_yaxis()
    legend(axes)
    tidy(axes)
    return figure


def _times(steps_ms: np.ndarray, ttft_ms: np.ndarray) -> Figure:
    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = (("step time (ms)", "decode steps", steps_ms), ("time to first token (ms)", "requests", ttft_ms))
    for axes, (name, unit, values) in zip(figure.subplots(1, 2), panels, strict=True):
        if not len(values):
            nothing(figure, axes, f"{name}: nothing exact to show")
            continue
        median, p95, cut = np.percentile(values, (50, 95, 99))
        # The last percent would squeeze everything else against the axis; the legend states the maximum instead.
        axes.hist(values[values <= cut], bins=40, color=BLUE, alpha=0.85)
        for percentile, at, style in ((50, median, "-"), (95, p95, "--")):
            axes.axvline(at, color=ORANGE, linestyle=style, label=f"p{percentile} {at:.2f} ms")
        axes.plot([], [], " ", label=f"max {values.max():.2f} ms (not drawn above p99)")
        axes.set(xlabel=name, ylabel=unit)
        legend(axes)
        tidy(axes)
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Writes the figure as a PNG and returns its path. Characters that the font lacks become boxes, without a warning.

    Raises:
        ArchiveError: it cannot be written.
    """
    FigureCanvasAgg(figure)
    png = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(png, format="png", dpi=130)
    files.write_atomically(path, [png.getvalue()])
    return path


def nothing(figure: Figure, axes: Any, text: str) -> Figure:
    """Shows the reason why there is no plot, in its place."""
    axes.axis("off")
    axes.text(0.5, 0.5, text, ha="center", va="center", color=GREY, fontsize=12)
    return figure


def legend(axes: Any) -> None:
    """Adds the legend above the axes, where it hides no data."""
    longest = max(len(line) for label in axes.get_legend_handles_labels()[1] for line in label.splitlines())
    axes.legend(
        frameon=False,
        fontsize=8,
        ncols=max(min(3, 80 // (longest + 6)), 1),
        loc="lower left",
        bbox_to_anchor=(0, 1),
        borderaxespad=0.2,
        columnspacing=1.0,
    )


def tidy(axes: Any) -> None:
    """Removes the frame's top and right sides and adds a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="both", alpha=0.2)


def plain(text: str, *, width: int = 70) -> str:
    """Escapes text for matplotlib: dollar signs do not start mathematics, and unprintable characters are spelt out.

    A legend leaves out labels that begin with an underscore, so those lines get a leading space. Lines are broken at
    `width` characters.
    """
    lines = textwrap.wrap(literal(text), width) or [""]
    return "\n".join(f" {line}" if line.startswith("_") else line for line in lines).replace("$", r"\$")
