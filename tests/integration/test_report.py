"""`report` makes a page of a run, of a sweep, and of several archives."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.archive_samples import make_prompt
from tests.helpers.command_line import CommandLine
from tests.helpers.in_process import run
from tests.helpers.made_archives import plain, reply, write_run

PROMPT = make_prompt()
RECORD = reply(PROMPT, [2, 0, 3])


def data_of(page: Path) -> Any:
    found = re.search(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8"), re.S)
    assert found
    return json.loads(found[1])


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    """A folder of a plain run, and a run of drafts whose texts were left out."""
    write_run(tmp_path / "a" / "plain", [plain(RECORD)], [PROMPT], spec="none", cell_id="plain 1")
    drafts = write_run(tmp_path / "b" / "drafts", [RECORD], [PROMPT])
    drafts.responses_path.unlink()
    return tmp_path


def test_a_page_of_one_run_lands_in_its_folder(archives: Path) -> None:
    outcome = run(archives, "report", "b/drafts")
    assert (outcome.status, outcome.stdout, outcome.stderr) == (0, "report  b/drafts/report.html\n", "")
    data = data_of(archives / "b" / "drafts" / "report.html")
    assert (data["kind"], [cell["folder"] for cell in data["cells"]]) == ("run", ["."])
    (shown,) = data["cells"][0]["inspected"]
    assert (shown["text"], shown["token_lengths"], shown["num_tokens"]) == ("", None, [1, 3, 1, 4])


def test_a_page_of_several_archives_compares_them(archives: Path) -> None:
    outcome = run(archives, "report", "a", "b", "--output", "both.html")
    assert (outcome.status, outcome.stdout, outcome.stderr) == (0, "report  both.html\n", "")
    data = data_of(archives / "both.html")
    assert data["kind"] == "archives"
    assert [cell["folder"] for cell in data["cells"]] == ["a/plain", "b/drafts"]
    # 8 tokens after the prefill's: 80 ms by plain decoding, 30 ms in three steps.
    assert data["cells"][1]["metrics"]["speedup_tpot"]["value"] == pytest.approx(80 / 30, rel=1e-5)
    run(archives, "report", "a", "b/drafts", "b")
    assert len(data_of(archives / "report.html")["cells"]) == 2, "a run that is named twice is shown once"


def test_a_sweep_writes_a_page_of_its_own_and_of_each_cell(command_line: CommandLine) -> None:
    outcome = command_line("-m", *command_line.experiment, "spec.draft_length=1,3", "hydra.sweep.dir=sweep")
    assert outcome.status == 0, outcome.stderr
    sweep = command_line.folder / "sweep"
    data = data_of(sweep / "report.html")
    assert (data["kind"], [cell["name"] for cell in data["cells"]]) == ("sweep", ["ngram K=1", "ngram K=3"])
    for cell in data["cells"]:
        own = data_of(sweep / cell["folder"] / "report.html")
        assert (own["kind"], [one["name"] for one in own["cells"]]) == ("run", [cell["name"]])
    said = [shown for cell in data["cells"] for shown in cell["inspected"]]
    assert said
    assert all(sum(shown["token_lengths"]) == len(shown["text"]) for shown in said)
