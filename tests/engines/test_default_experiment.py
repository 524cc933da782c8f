"""The bundled models through the command line, as the README's commands run them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(folder: Path, *arguments: str) -> str:
    """Runs run.py and returns what it printed."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *arguments], cwd=folder, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


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
