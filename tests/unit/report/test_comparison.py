"""What `compare` writes: every format holds the numbers, and no text of a run acts on what shows it."""

import csv
import html
import io
from pathlib import Path

import pytest

from specdec_bench.compare.comparison import Comparison, compare
from specdec_bench.compare.effects import HEADLINE
from specdec_bench.compare.pairing import read_archive
from specdec_bench.report.blocks import Block, Line, Table, markdown, page
from specdec_bench.report.comparison import blocks, table_csv
from tests.helpers import build
from tests.helpers.made_archives import reply, write_run

HOSTILE = "<script>alert(1)</script>\x1b[31m|`=1+1"


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    """Two runs whose only reply parts at the second token, of a prompt with a hostile name."""
    prompt = build.prompt(HOSTILE)
    record = reply(prompt, [2, 1])
    other = reply(prompt, [2, 1], output_token_ids=(65, 90, 67, 68, 69, 70))
    runs = [write_run(tmp_path / name, [one], [prompt]) for name, one in (("a", record), ("b", other))]
    return compare([read_archive(f"={HOSTILE}", runs[:1]), read_archive("b", runs[1:])], HEADLINE)


def test_html_has_no_markup_of_a_run(comparison: Comparison) -> None:
    text = page(blocks(comparison), "Comparison")
    assert "<script" not in text
    assert "\x1b" not in text
    assert html.escape("<script>alert(1)</script>\\x1b[31m|`=1+1") in text
    assert "default-src 'none'" in text
    assert "acceptance length" in text


def test_markdown_has_no_markup_of_a_run(comparison: Comparison) -> None:
    text = markdown(blocks(comparison))
    assert "\\<script\\>alert\\(1\\)\\</script\\>\\\\x1b\\[31m\\|\\`=1\\+1" in text
    assert "<script" not in text.replace("\\<script", "")
    assert "| acceptance length | 2.500 | 2.500 |" in text


def test_csv_has_full_precision_and_no_formula(comparison: Comparison) -> None:
    rows = list(csv.DictReader(io.StringIO(table_csv(comparison))))
    assert rows[0]["reference_archive"].startswith("'=")
    length = next(row for row in rows if row["metric"] == "acceptance_length")
    assert (length["reference"], length["ratio"], length["num_runs"]) == ("2.5", "1.0", "1")


def test_outputs_name_where_they_part(comparison: Comparison) -> None:
    found: list[Block] = list(blocks(comparison))
    (line,) = [block.text for block in found if isinstance(block, Line) and block.text.startswith("outputs")]
    assert line == "outputs: 0 of 1 identical (0.0%); the first difference is at token 1, the median at 1"
    table = next(block for block in found if isinstance(block, Table) and block.headers[0] == "prompt")
    assert table.rows == [(HOSTILE, "ABCDEF", "AZCDEF", "0", "1")]
