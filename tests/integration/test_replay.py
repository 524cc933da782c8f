"""`replay` and `summarize` work from a run directory alone."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.command_line import CommandLine, read_json


@pytest.fixture
def archived(command_line: CommandLine, finished_run: Path) -> Path:
    """A copy of the finished run, away from where it was made."""
    return Path(shutil.copytree(finished_run, command_line.folder / "archived"))


def edit_lines(path: Path, edit: Any) -> None:
    """Applies `edit` to each line's object."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        edit(line)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def test_a_replay_repeats_the_run(command_line: CommandLine, archived: Path, prompts: Path) -> None:
    config = archived / "config.yaml"
    # The prompts come from the archive: the dataset's own file may be gone.
    config.write_text(config.read_text().replace(str(prompts), "/gone.jsonl"))
    outcome = command_line("replay", archived)
    assert (outcome.status, outcome.stderr) == (0, "")
    assert "3 of 3 outputs and 3 of 3 acceptances identical" in outcome.stdout
    (replayed,) = command_line.folder.glob("outputs/*/*")
    result = read_json(replayed / "replay.json")
    assert (result["identical"], result["must_be_identical"], result["differences"]) == (True, True, [])
    assert result["environment_changes"] == {}
    original = read_json(archived / "manifest.json")
    assert read_json(replayed / "manifest.json")["replay_of"] == original["run_id"]


def test_a_replay_tells_a_changed_archive(command_line: CommandLine, archived: Path) -> None:
    def change_first_token(record: dict[str, Any]) -> None:
        if record["prompt_id"] == "one" and record["phase"] == "measure":
            record["output_token_ids"][0] ^= 1

    edit_lines(archived / "requests.jsonl", change_first_token)
    outcome = command_line("replay", archived, "--output", "replayed")
    assert outcome.status == 1
    assert "must repeat exactly" in outcome.error
    assert "2 of 3 outputs and 3 of 3 acceptances identical" in outcome.stdout
    result = read_json(command_line.folder / "replayed" / "replay.json")
    assert result["identical"] is False
    assert result["differences"] == [{"prompt_id": "one", "turn": 0, "repeat": 0, "first_difference": 0}]


def test_changed_prompts_are_not_replayed(command_line: CommandLine, archived: Path) -> None:
    edit_lines(archived / "prompts.jsonl", lambda prompt: prompt.update(category="c"))
    outcome = command_line("replay", archived)
    assert outcome.status == 2
    assert "prompts.jsonl: is not what the run archived" in outcome.error


@pytest.mark.parametrize("command", ["replay", "summarize"])
def test_a_folder_that_is_no_run_is_named(command_line: CommandLine, command: str) -> None:
    outcome = command_line(command, "gone")
    assert outcome.status == 2
    assert outcome.error.startswith("error: gone: not a run directory")
    assert not list(command_line.folder.iterdir())


def test_a_summary_is_computed_again_from_the_archive(command_line: CommandLine, archived: Path) -> None:
    path = archived / "summary.json"
    original = path.read_bytes()
    path.write_bytes(original.replace(b'"finished": 3', b'"finished": 4'))
    assert path.read_bytes() != original
    changed = command_line("summarize", archived)
    assert changed.status == 0
    assert "summary.json: CHANGED" in changed.stdout
    assert path.read_bytes() == original
    again = command_line("summarize", archived)
    assert again.status == 0
    assert "summary.json: unchanged" in again.stdout
    assert path.read_bytes() == original
