"""The bundled models through the command line, as the README's commands run them."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.command_line import CommandLine


def run(folder: Path, *arguments: str) -> str:
    """Runs run.py and returns what it printed."""
    outcome = CommandLine(folder, os.environ)(*arguments)
    assert outcome.status == 0, outcome.stderr
    return outcome.stdout


def acceptance(run_dir: Path) -> dict[str, Any]:
    figures: dict[str, Any] = json.loads((run_dir / "summary.json").read_text())["acceptance"]
    return figures


@pytest.mark.parametrize(
    ("spec", "shortest", "longest"),
    # What the tiny models have to reach on the demo prompts at K=3.
    [("draft_model", 1.8, 3.2), ("ngram", 1.2, 4.0)],
)
def test_acceptance_is_realistic_and_replays_identically(
    tmp_path: Path, spec: str, shortest: float, longest: float
) -> None:
    run(tmp_path, f"spec={spec}", "hydra.run.dir=run")
    figures = acceptance(tmp_path / "run")
    assert figures["source"] == "engine_request"
    assert shortest <= figures["pooled"]["acceptance_length"] <= longest
    lengths = {category["pooled"]["acceptance_length"] for category in figures["by_category"].values()}
    assert len(lengths) == 5
    assert max(lengths) - min(lengths) > 0.2
    said = run(tmp_path, "replay", "run", "--output", "again")
    assert "50 of 50 outputs and 50 of 50 acceptances identical" in said
    assert acceptance(tmp_path / "again") == figures


def test_a_run_is_checked_against_its_expected_values(tmp_path: Path) -> None:
    said = run(
        tmp_path, "dataset.num_prompts=5", "dataset.num_turns=1", "sampling.max_new_tokens=16", "hydra.run.dir=run",
        "expected.acceptance_length_drafted=1.9", "expected.relative_tolerance=0.5",
        "expected.acceptance_joint=[0.01,0.01,0.01]",
    )  # fmt: skip
    assert said.splitlines()[-1] == "against the expected values  pass: 4 of 4 values within 50%"
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["requests"]["finished"] == 5
    assert run(tmp_path, "check", "run").count("pass") == 4
    manifest = tmp_path / "run" / "manifest.json"
    as_it_was = manifest.read_text()
    manifest.write_text(as_it_was.replace('_drafted": 1.9', '_drafted": 9'))
    assert checked(tmp_path) == (1, "outside the tolerance in acceptance_length_drafted")
    manifest.write_text(as_it_was.replace('"num_requests": null', '"num_requests": 6'))
    assert checked(tmp_path) == (2, "the run has 5 requests and its expected values are of 6; run all of them")


def checked(folder: Path) -> tuple[int, str]:
    """Returns the exit status of `check` and how its error ends."""
    outcome = CommandLine(folder, os.environ)("check", "run")
    return outcome.status, outcome.error.split(": ")[-1]
