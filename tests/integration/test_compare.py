"""`compare` on the command line: formats, and the exit status of conditions."""

import json
from pathlib import Path

import pytest

from tests.helpers.archive_samples import make_prompt
from tests.helpers.in_process import run
from tests.helpers.made_archives import reply, write_run

PROMPTS = [make_prompt(0), make_prompt(1)]


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    """Three runs each of 4 tokens a step in `a`, of 2 in `b`."""
    for name, accepted in (("a", [3, 3]), ("b", [1, 1])):
        for replicate in range(3):
            records = [reply(prompt, accepted) for prompt in PROMPTS]
            write_run(tmp_path / name / str(replicate), records, PROMPTS, replicate=replicate)
    return tmp_path


def test_a_regression_exits_1_and_names_the_change(archives: Path) -> None:
    outcome = run(archives, "compare", "a", "b", "--fail-if", "acceptance_length<-2%")
    assert outcome.status == 1
    assert outcome.stderr == ("error: FAILED: acceptance_length<-2%: ngram K=3, 1 in flight: -50.00% to -50.00%\n")
    assert "worse" in outcome.stdout


def test_no_regression_exits_0(archives: Path) -> None:
    assert run(archives, "compare", "b", "a", "--fail-if", "acceptance_length<-2%").status == 0
    assert run(archives, "compare", "a", "b").status == 0


def test_what_cannot_be_judged_exits_2(archives: Path) -> None:
    outcome = run(archives, "compare", "a/0", "b/0", "--fail-if", "acceptance_length<-2%")
    assert outcome.status == 2
    assert "NOT JUDGED: acceptance_length<-2%" in outcome.stderr
    assert "of at least 3 each" in outcome.stderr


def test_json_is_whole(archives: Path) -> None:
    found = json.loads(run(archives, "compare", "a", "b", "--format", "json", "--metric", "tpot_ms").stdout)
    (metric,) = found["cells"][0]["metrics"]
    assert (found["schema_version"], metric["metric"]) == (1, "tpot_ms_mean")
    assert metric["ratio"]["value"] == pytest.approx(2.0)  # 20 ms for 8 tokens and for 4


@pytest.mark.parametrize("form", ["table", "csv", "markdown", "html"])
def test_every_format_has_the_metrics(archives: Path, form: str) -> None:
    outcome = run(archives, "compare", "a", "b", "--format", form)
    assert (outcome.status, outcome.stderr) == (0, "")
    assert "acceptance" in outcome.stdout
