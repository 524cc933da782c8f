"""A dataset of which not all is used, as a user meets it: manifest, log, table, sweep, replay, prepare."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.command_line import CommandLine, read_json

TALKS: list[dict[str, Any]] = [
    {"id": "a", "conversations": []},
    {"id": "b", "conversations": [{"from": "gpt", "value": "Hi."}, {"from": "Human", "value": "One?"}], "lang": "en"},
    {"id": "b", "conversations": [{"from": "human", "value": "Two?"}]},
    {"id": "c", "conversations": [{"from": "narrator", "value": "\x1b[31mNight."}]},
]
ROWS = "2 ROWS NOT USED: with an unknown speaker, such as 'narrator' (row 4); without a message (row 1)"
PARTS = (
    "ROWS NOT SENT AS THEY ARE: an id that an earlier row has too gets the row's number added, such as 'b' of rows 2 "
    "and 3 (row 3); begins with a reply, which is left out (row 2)"
)
SMALL = ("engine=synthetic", "spec=ngram", "sampling.max_new_tokens=4", "load.num_warmup=0", "dataset=sharegpt")


@pytest.fixture
def talks(command_line: CommandLine) -> str:
    path = command_line.folder / "talks.json"
    path.write_text(json.dumps(TALKS), encoding="utf-8")
    return f"dataset.path={path}"


def has_all(run: Path) -> None:
    unused = read_json(run / "manifest.json")["dataset"]["unused"]
    assert {kind: {name: tree["rows"] for name, tree in reasons.items()} for kind, reasons in unused.items()} == {
        "rows": {"without a message": "1", "with an unknown speaker": "4"},
        "parts": {
            "begins with a reply, which is left out": "2",
            "an id that an earlier row has too gets the row's number added": "3",
        },
        "fields": {"lang": "2"},
        "files": {},
    }
    log = (run / "run.log").read_text(encoding="utf-8")
    assert log.count(ROWS) == log.count(PARTS) == log.count("fields that nothing reads: 'lang' (row 2)") == 1
    assert "4 rows make 2 prompts, of which 2 are selected" in log


def test_it_is_in_manifest_log_and_table_of_run_and_replay(command_line: CommandLine, talks: str) -> None:
    run = command_line(*SMALL, talks, "hydra.run.dir=run")
    assert (run.status, run.stderr) == (0, "")
    assert run.stdout.splitlines()[:2] == [
        f"{ROWS}; all are in manifest.json",
        f"{PARTS}; all are in manifest.json",
    ]
    has_all(command_line.folder / "run")
    tried = command_line(*SMALL, talks, "--dry-run")
    assert tried.stdout.splitlines()[0] == f"dataset=sharegpt: {ROWS}; all are in manifest.json"
    again = command_line("summarize", "run")
    assert again.stdout.splitlines()[:2] == run.stdout.splitlines()[:2]
    assert "summary.json: unchanged" in again.stdout
    replay = command_line("replay", "run", "--output=again")
    assert (replay.status, replay.stderr) == (0, "")
    assert replay.stdout.splitlines()[:2] == run.stdout.splitlines()[:2]
    has_all(command_line.folder / "again")


def test_each_cell_of_a_sweep_has_it_and_its_table_too(command_line: CommandLine, talks: str) -> None:
    """The cells share their prompts, which are read before any has a log."""
    sweep = command_line("-m", *SMALL, talks, "spec.draft_length=1,2", "hydra.sweep.dir=sweep")
    assert (sweep.status, sweep.stderr) == (0, "")
    for number in (0, 1):
        has_all(command_line.folder / "sweep" / str(number))
    assert sweep.stdout.count(f"dataset=sharegpt: {ROWS}; all are in manifest.json") == 1


def test_prepare_says_it_and_so_does_a_run_on_what_it_wrote(command_line: CommandLine, talks: str) -> None:
    made = command_line("prepare", "sharegpt", talks)
    assert (made.status, made.stderr) == (0, "")
    assert f"  {ROWS}\n  {PARTS}\n  fields that nothing reads: 'lang' (row 2)\n" in made.stdout
    arguments = [*SMALL[:-1], "dataset=prepared", "dataset.path=sharegpt.parquet", "hydra.run.dir=run"]
    run = command_line(*arguments)
    assert run.stdout.splitlines()[0] == f"{ROWS}; all are in manifest.json"
    has_all(command_line.folder / "run")
