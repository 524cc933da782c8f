"""Where marks lie in a sweep's plots."""

from pathlib import Path

import pytest

from specdec_bench.report.curves import panels
from specdec_bench.report.sweep_plots import DODGE, _figure
from tests.helpers.archive_samples import make_prompt
from tests.helpers.made_archives import collected, reply, write_run

PROMPTS = [make_prompt(0), make_prompt(1)]


def test_methods_that_coincide_lie_beside_their_one_draft_length(tmp_path: Path) -> None:
    records = [reply(PROMPTS[0], (3, 1)), reply(PROMPTS[1], (2, 0))]
    runs = [write_run(tmp_path / spec, records, PROMPTS, spec=spec) for spec in ("ngram", "suffix")]
    (panel,) = panels(collected(runs)[0])
    axes = _figure(panel).axes[2]
    marks = sorted(line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "None")
    assert marks == pytest.approx([3 - DODGE / 2, 3 + DODGE / 2])
    assert axes.get_xlim() == (2.5, 3.5)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["3"]
