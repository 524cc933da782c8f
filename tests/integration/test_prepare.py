"""prepare as a user runs it, and a run on what it wrote."""

import json

import pytest

from tests.helpers.command_line import CommandLine, read_json

QUESTIONS = [
    {"question_id": 1, "category": "writing", "turns": ["Write.", "Again."]},
    {"question_id": 2, "category": "qa", "turns": ["Why?"]},
]


def test_a_run_takes_what_prepare_wrote(command_line: CommandLine) -> None:
    file = command_line.folder / "question.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS), encoding="utf-8")
    made = command_line("prepare", "spec_bench", "dataset.path=question.jsonl")
    assert made.status == 0, made.stderr
    assert "spec_bench.parquet: written; 2 prompts, 3 turns" in made.stdout
    again = command_line("prepare", "spec_bench", "dataset.path=question.jsonl")
    assert "spec_bench.parquet: unchanged" in again.stdout
    run = command_line.measure("dataset=prepared", "dataset.path=spec_bench.parquet", "hydra.run.dir=run")
    assert run.status == 0, run.stderr
    dataset = read_json(command_line.folder / "run" / "manifest.json")["dataset"]
    assert dataset["categories"] == {"mt_bench": 1, "qa": 1}
    assert f"sha256    {dataset['sha256']}" in made.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mt_bench"], "question.jsonl of the hub's HuggingFaceH4/mt_bench_prompts: not in the cache"),
        (["spec_bench"], "dataset=spec_bench: needs its file; pass dataset.path="),
        (["speed_bench", "dataset.path=q.parquet"], "--accept-license"),
        (["random"], "random: this dataset cannot be prepared"),
    ],
)
def test_what_cannot_be_prepared_leaves_nothing(command_line: CommandLine, arguments: list[str], words: str) -> None:
    cache = str(command_line.folder)
    outcome = command_line("prepare", *arguments, HF_HUB_OFFLINE="1", HF_HUB_CACHE=cache)
    assert outcome.status == 2
    assert words in outcome.error
    assert list(command_line.folder.iterdir()) == []
