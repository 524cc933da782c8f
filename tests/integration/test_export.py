"""`export` on the command line, and the way of measured acceptance back into an engine."""

import io
import itertools
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.helpers.archive_samples import make_prompt
from tests.helpers.command_line import ROOT, read_json
from tests.helpers.in_process import run
from tests.helpers.made_archives import reply, write_run

PROMPTS = [make_prompt(0), make_prompt(1)]
TEN_STEPS = ((3, 3, 2, 2, 2), (1, 1, 1, 0, 0))
"""15 drafts accepted in 10 steps: length 2.5."""
EXPERIMENT = (
    "engine=synthetic",
    "spec=ngram",
    "dataset.num_prompts=40",
    "sampling.max_new_tokens=32",
    "load.concurrency=40",
    "engine.ttft_ms=0",
    "engine.step_time_ms=0",
)


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    """A run `one`, and a sweep-like folder `many` of a plain run and two that draft."""
    records = [reply(prompt, accepted) for prompt, accepted in zip(PROMPTS, TEN_STEPS, strict=True)]
    write_run(tmp_path / "one", records, PROMPTS)
    write_run(tmp_path / "plain", records, PROMPTS, spec="none")
    write_run(tmp_path / "many" / "0", records, PROMPTS, spec="none")
    write_run(tmp_path / "many" / "1", records, PROMPTS)
    write_run(tmp_path / "many" / "2", records, PROMPTS, draft_length=4)
    write_run(tmp_path / "failed", records, PROMPTS, status="failed")
    return tmp_path


def test_a_form_is_all_of_stdout(archives: Path) -> None:
    found = run(archives, "export", "one", "--to", "vllm-synthetic")
    assert (found.status, found.stderr) == (0, "")
    assert json.loads(found.stdout)["synthetic_acceptance_rates"] == pytest.approx([0.8, 0.5, 0.2])
    profile = run(archives, "export", "one", "--to", "profile")
    assert json.loads(profile.stdout)["mean_accept_length"] == 2.5


def test_a_folder_with_one_cell_that_drafts_stands_for_it(archives: Path) -> None:
    write_run(archives / "pair" / "plain", [reply(PROMPTS[0], [1])], PROMPTS, spec="none")
    write_run(archives / "pair" / "ngram", [reply(PROMPTS[0], [3, 0])], PROMPTS)
    found = run(archives, "export", "pair", "--to", "sglang-synthetic")
    assert found.stdout.splitlines()[0] == "SGLANG_SIMULATE_ACC_LEN=2.5"


def test_golden_has_every_draft_length_of_a_folder(archives: Path) -> None:
    found = yaml.safe_load(run(archives, "export", "many", "--to", "golden").stdout)
    assert found["tiny"] == {"thinking_default": {3: 2.5, 4: 2.5}}


def test_a_file_is_written_instead_of_stdout(archives: Path) -> None:
    found = run(archives, "export", "many", "--to", "csv", "--output", "requests.csv")
    assert (found.status, found.stdout, found.stderr) == (0, "", "")
    table = pd.read_csv(archives / "requests.csv")
    assert sorted(set(table.run_dir)) == [0, 1, 2]
    assert len(table) == 6
    assert run(archives, "export", "many", "--to", "csv").stdout == (archives / "requests.csv").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("plain", "--to", "profile"), "plain: no run in it drafts"),
        (("failed", "--to", "profile"), "failed: no run in it has finished"),
        (("many", "--to", "profile"), "many: 2 cells draft, and --to=profile takes one; give the folder of one"),
        (("one", "--to", "pdf"), "pdf"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_line(archives: Path, arguments: tuple[str], words: str) -> None:
    refused = run(archives, "export", *arguments)
    assert (refused.status, refused.stdout) == (2, "")
    assert words in refused.error


def test_requests_of_a_failed_run_are_written_with_its_status(archives: Path) -> None:
    found = run(archives, "export", "failed", "--to", "csv")
    assert found.status == 0
    assert set(pd.read_csv(io.StringIO(found.stdout)).status) == {"failed"}


def test_what_is_partial_is_said(archives: Path) -> None:
    cut = reply(PROMPTS[0], [3, 3])
    steps = (*cut.steps[:-1], type(cut.steps[0])(received_ns=10**9, num_tokens=2, num_proposed=1, num_accepted=1))
    write_run(archives / "cut", [reply(PROMPTS[0], (), steps=steps)], PROMPTS[:1])
    found = run(archives, "export", "cut", "--to", "sglang-synthetic")
    assert found.stdout.splitlines()[0] == "SGLANG_SIMULATE_ACC_LEN=4.0"
    assert "some steps proposed fewer than 3 drafts; the acceptance length is 3 with them, and 4 in" in found.stderr


def test_parquet_goes_to_a_pipe_and_never_to_a_terminal(archives: Path) -> None:
    command = [sys.executable, str(ROOT / "run.py"), "export", "one", "--to", "parquet"]
    piped = subprocess.run(command, cwd=archives, capture_output=True, timeout=300, check=True)
    assert pd.read_parquet(io.BytesIO(piped.stdout)).num_accepted.sum() == 15
    leader, terminal = pty.openpty()
    try:
        shown = subprocess.run(command, cwd=archives, stdout=terminal, stderr=subprocess.PIPE, timeout=300)
    finally:
        os.close(terminal)
        os.close(leader)
    assert shown.returncode == 2
    assert shown.stderr.decode().startswith("error: --to=parquet: a terminal cannot show it; give --output=FILE")
    assert shown.stderr.count(b"\n") == 1


def test_an_engine_that_is_told_to_accept_as_measured_does(tmp_path: Path) -> None:
    """Measured with rates of its own, exported, and measured again with what vLLM makes of the exported rates."""
    measured, again = tmp_path / "measured", tmp_path / "again"
    first = run(tmp_path, *EXPERIMENT, "hydra.run.dir=measured", "engine.acceptance_rates=[0.7,0.5,0.9]", "seed=1")
    assert first.status == 0, first.stderr
    exported = json.loads(run(tmp_path, "export", "measured", "--to", "vllm-synthetic").stdout)
    joint = exported["synthetic_acceptance_rates"]
    conditional = [now / before for before, now in itertools.pairwise([1.0, *joint])]
    assert conditional == pytest.approx([0.7, 0.5, 0.9], abs=0.06)
    second = run(
        tmp_path,
        *EXPERIMENT,
        "hydra.run.dir=again",
        f"engine.acceptance_rates={json.dumps(conditional, separators=(',', ':'))}",
        f"spec.draft_length={exported['num_speculative_tokens']}",
        "seed=2",
    )
    assert second.status == 0, second.stderr
    golden = yaml.safe_load(run(tmp_path, "export", "measured", "--to", "golden").stdout)
    low, high = golden["_metadata"]["interval_95"]["tiny"]["thinking_default"][3]
    length = read_json(again / "summary.json")["acceptance"]["pooled"]["acceptance_length_drafted"]
    assert (
        golden["tiny"]["thinking_default"][3]
        == (read_json(measured / "summary.json")["acceptance"]["pooled"]["acceptance_length_drafted"])
    )
    assert low < length < high
    assert length != golden["tiny"]["thinking_default"][3]  # the second run did draw anew
    assert high - low < 0.5  # so that a bonus token too many, or one too few, would be seen
