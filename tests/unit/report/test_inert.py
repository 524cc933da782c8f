"""Text as a terminal, a spreadsheet and matplotlib get it."""

import io
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot
import pytest
from matplotlib.figure import Figure

from specdec_bench.compare.cell import SweepResult
from specdec_bench.config.schema.load import ClosedLoad
from specdec_bench.metrics.summary import Samples, summarize
from specdec_bench.report.console import console
from specdec_bench.report.run_plots import plain, write_plots
from specdec_bench.report.streams import GuardedStream, guard_streams, print_error
from specdec_bench.report.sweep_plots import write_sweep_plots
from specdec_bench.report.text import defuse, literal
from tests.helpers.made_runs import manifest, request


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcode 字", "plain ünïcode 字"),
        ("\x1b[31m", r"\x1b[31m"),
        ("a\u202eb\u2066", r"a\u202eb\u2066"),
        ("\ud800", r"\ud800"),
        ("a\tb\nc\rd\x85\x9b", r"a\tb\nc\rd\x85\x9b"),
        ("[red]x[/red]", "[red]x[/red]"),
    ],
)
def test_control_characters_are_spelt_out(text: str, shown: str) -> None:
    assert literal(text) == shown
    assert literal("a\nb\x1b", kept="\n") == "a\nb\\x1b"


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-x", "@SUM", " =1", "＝1"])
def test_formulas_are_defused(text: str) -> None:
    assert defuse(text) == "'" + text
    assert defuse("\tx") == r"'\tx"


@pytest.mark.parametrize("text", ["-1.5", "+2", "-1e-3", "-inf", "a=b", "x", "", "1-2"])
def test_numbers_and_plain_text_are_not(text: str) -> None:
    assert defuse(text) == text


def test_a_console_reads_no_markup_and_prints_no_control_character(capsys: pytest.CaptureFixture[str]) -> None:
    console().print("[bold]a[/bold]\x1b[31m :smile: \u202e")
    assert capsys.readouterr().out == "[bold]a[/bold]\\x1b[31m :smile: \\u202e\n"


def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("a\nerror: forged\r\x1b[2K  b")
    assert capsys.readouterr().err == "error: a error: forged \\x1b[2K b\n"


class _Gone(io.StringIO):
    def write(self, _: str) -> int:
        raise BrokenPipeError


def test_a_stream_that_nobody_reads_takes_all() -> None:
    stream = GuardedStream(_Gone())
    assert stream.write("x") == 1
    stream.flush()
    closed = io.StringIO()
    closed.close()
    assert GuardedStream(closed).write("x") == 1


def test_what_an_encoding_lacks_is_spelt() -> None:
    raw = io.BytesIO()
    stream = GuardedStream(io.TextIOWrapper(raw, encoding="ascii"))
    stream.write("≥ 1 – 2 · ü\x1b[31m\n")
    stream.flush()
    assert raw.getvalue() == b">= 1 - 2 | \\xfc\\x1b[31m\n"


def test_streams_are_given_back() -> None:
    before = sys.stdout, sys.stderr
    with guard_streams():
        assert isinstance(sys.stdout, GuardedStream)
    assert (sys.stdout, sys.stderr) == before


# ---------------------------------------------------------------- plots


def test_matplotlib_reads_no_mathematics() -> None:
    assert plain("cost $\\over$") == r"cost \$\over\$"
    assert plain("_hidden") == " _hidden"
    assert plain("a\nb") == r"a\nb"
    assert max(map(len, plain("word " * 50, width=40).splitlines())) <= 40


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures as they are saved."""
    saved: list[Figure] = []
    save = Figure.savefig

    def note(figure: Figure, *arguments: Any, **options: Any) -> None:
        save(figure, *arguments, **options)
        saved.append(figure)

    monkeypatch.setattr(Figure, "savefig", note)
    return saved


def check_legends(figures: list[Figure]) -> list[str]:
    """Returns the legends' texts, having seen that each lies above its axes and within the figure."""
    texts = []
    for figure in figures:
        for axes in figure.axes:
            legend = axes.get_legend()
            if legend is None:
                continue
            box = legend.get_window_extent()
            assert box.y0 >= axes.get_window_extent().y1 - 1
            assert box.y1 <= figure.bbox.y1 + 1
            texts += [text.get_text() for text in legend.get_texts()]
            assert len(legend.get_texts()) == len(axes.get_legend_handles_labels()[0])
    return texts


def test_legends_of_a_run_lie_on_no_data(tmp_path: Path, figures: list[Figure]) -> None:
    records = [request(i, 3, 3, 3, 2, category=["cost $\\over$", "_hidden", "字"][i % 3]) for i in range(6)]
    write_plots(summarize(records, manifest()), Samples(records), tmp_path, label="_a$b$ " + "long " * 40)
    assert len(figures) == 3
    assert "pooled over the category" in check_legends(figures)


def test_legends_of_a_sweep_lie_on_no_data(tmp_path: Path, figures: list[Figure]) -> None:
    rows = [
        {
            **{"job": job, "status": "finished", "replicate": 0, "engine": "vllm", "model": "_m$x$", "dataset": "d"},
            **{"spec": spec, "draft_length": 3, "load_axis": "concurrency", "load_value": concurrency},
            **{"spec.variant": variant},
            **{"output_tps_per_user": 10.0 * job, "speedup_tpot": 1.0 + job, "acceptance_length": 2.0},
        }
        for job, (spec, concurrency, variant) in enumerate(
            (spec, concurrency, variant)
            for spec in ("ngram", "eagle3")
            for concurrency in (1, 16)
            for variant in ("$a$", "_b", "word " * 12, "x" * 70)
        )
    ]
    loads = {"concurrency": ClosedLoad().label}
    varying_fields = ["spec.variant"]
    result = SweepResult(
        rows=rows, replicates=[], comparisons={}, recommendations=[], varying_fields=varying_fields, loads=loads
    )
    write_sweep_plots(result, tmp_path)
    (figure,) = figures
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert box.y1 <= min(axes.get_tightbbox().y0 for axes in figure.axes) + 3
    assert box.y0 >= figure.bbox.y0 - 1
    texts = [text.get_text() for text in legend.get_texts()]
    assert len(texts) == 8
    assert any("_b" in text for text in texts)
    matplotlib.pyplot.close("all")


def test_marks_of_methods_that_coincide_stand_side_by_side(tmp_path: Path, figures: list[Figure]) -> None:
    rows = [
        {
            **{"job": job, "status": "finished", "replicate": 0, "engine": "e", "model": "m", "dataset": "d"},
            **{"spec": spec, "draft_length": 3, "load_axis": "concurrency", "load_value": 1},
            **{"output_tps_per_user": 10.0, "speedup_tpot": 2.0, "acceptance_length": 2.0},
        }
        for job, spec in enumerate(["ngram", "eagle3", "mtp"])
    ]
    loads = {"concurrency": ClosedLoad().label}
    result = SweepResult(rows=rows, replicates=[], comparisons={}, recommendations=[], varying_fields=[], loads=loads)
    write_sweep_plots(result, tmp_path)
    for axes in figures[0].axes:
        marks = {tuple(line.get_xdata()) for line in axes.lines if line.get_marker() == "o" and len(line.get_xdata())}
        assert len(marks) == 3
    matplotlib.pyplot.close("all")


def test_categories_in_chinese_cause_no_warning(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    records = [request(i, 3, category=["写作", "翻訳", "번역"][i % 3]) for i in range(6)]
    write_plots(summarize(records, manifest()), Samples(records), tmp_path, label="写作")
    assert not list(recwarn)
