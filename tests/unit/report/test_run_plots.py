"""The three pictures of a run are drawn whatever the run was."""

from pathlib import Path
from typing import Any

import matplotlib.image
import pytest

from specdec_bench.metrics.summary import Samples, summarize
from specdec_bench.records.request import RequestRecord, Step
from specdec_bench.report.run_plots import write_plots
from tests.helpers.made_runs import S, failure, manifest, request

NAMES = ["acceptance_by_position.png", "acceptance_by_category.png", "step_time_and_ttft.png"]


def draw(folder: Path, *records: RequestRecord, label: str = "ngram K=3", **changes: Any) -> list[bytes]:
    """Draws a run's plots and returns their bytes; each must be a PNG that can be decoded."""
    folder.mkdir(exist_ok=True)
    summary = summarize(records, manifest(**changes))
    paths = write_plots(summary, Samples(records), folder, label=label)
    assert [path.name for path in paths] == NAMES
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)
    for path in paths:
        height, width, _ = matplotlib.image.imread(path).shape
        assert min(height, width) > 200
    return [path.read_bytes() for path in paths]


def test_every_plot_is_a_png(tmp_path: Path) -> None:
    records = [request(i, 3, 1, 0, 2, category=f"category {i % 3}") for i in range(6)]
    for content in draw(tmp_path, *records):
        assert content.startswith(b"\x89PNG\r\n\x1a\n")


def test_one_request_of_one_category(tmp_path: Path) -> None:
    draw(tmp_path, request(0, 2))


def test_a_run_without_data_says_so_in_its_plots(tmp_path: Path) -> None:
    """Nothing finished; nothing but the prefill came; nothing was drafted."""
    empty = draw(tmp_path / "empty")
    failed = request(0, 3, 1, error=failure("engine_error"))
    assert draw(tmp_path / "failed", failed) == empty, "a failed request is in no metric"
    assert draw(tmp_path / "warm-up", request(0, 3, phase="warmup")) == empty
    draw(tmp_path / "prefill", request(0))


def test_drafts_that_all_failed_are_drawn(tmp_path: Path) -> None:
    """Conditional acceptance is known for the first position alone."""
    assert draw(tmp_path / "none accepted", request(0, 0, 0)) != draw(tmp_path / "one accepted", request(0, 1, 0))


def test_plain_decoding_and_merged_chunks_have_their_plots(tmp_path: Path) -> None:
    steps = tuple(Step(received_ns=(i + 1) * S, num_tokens=2) for i in range(3))
    for source in (None, "stream", "engine_total"):
        draw(tmp_path / str(source), request(0, steps=steps, output_token_ids=(7,) * 6, acceptance_source=source))


def test_a_stamp_is_in_every_plot(tmp_path: Path) -> None:
    records = [request(0, 3, 1), request(1, 0)]
    plain = draw(tmp_path / "plain", *records)
    synthetic = draw(tmp_path / "synthetic", *records, synthetic="no model was run")
    partial = draw(tmp_path / "partial", *records, status="interrupted")
    both = draw(tmp_path / "both", *records, status="interrupted", synthetic="no model was run")
    for versions in zip(plain, synthetic, partial, both, strict=True):
        assert len(set(versions)) == 4


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    assert draw(tmp_path / "a", request(0, 3, 1)) == draw(tmp_path / "b", request(0, 3, 1))


@pytest.mark.parametrize("name", ["$x_{", "a\x1b[31m\x00b", "a\nb", "\ud800", "x" * 100, "", "[red]é"])
def test_any_text_can_be_a_category_and_a_label(tmp_path: Path, name: str) -> None:
    """A dollar sign begins mathematics, and no font has a glyph for an escape or half a surrogate pair."""
    draw(tmp_path, request(0, 1, category=name), label=name)


def test_many_categories_make_the_plot_taller(tmp_path: Path) -> None:
    few = draw(tmp_path / "few", request(0, 1))
    many = draw(tmp_path / "many", *(request(i, 1, category=f"c{i:02}") for i in range(20)))
    heights = [int.from_bytes(content[20:24], "big") for content in (few[1], many[1])]
    assert heights[1] > 2 * heights[0]
