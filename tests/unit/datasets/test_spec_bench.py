"""Spec-Bench's groups, on rows in its own format."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from specdec_bench import datasets
from specdec_bench.config.schema.dataset import SpecBenchDataset
from specdec_bench.errors import DatasetError
from specdec_bench.records.request import Prompt

CATEGORIES = ["writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities"]
TASKS = ["translation", "summarization", "qa", "math_reasoning", "rag"]


def question(number: int, category: str) -> dict[str, Any]:
    turns = ["Say a.", "Say b."] if category in CATEGORIES else ["Say c."]
    return {"question_id": number, "category": category, "turns": turns, "reference": ["r"]}


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A question.jsonl with one question of each MT-Bench category and eight of each task, as the real one has."""
    categories = CATEGORIES + [task for task in TASKS for _ in range(8)]
    rows = [question(81 + index, category) for index, category in enumerate(categories)]
    file = tmp_path / "question.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)


def test_six_groups_are_reported_and_the_files_categories_are_kept(path: str) -> None:
    prompts = datasets.load(SpecBenchDataset(path=path), seed=0).prompts
    assert Counter(prompt.category for prompt in prompts) == dict.fromkeys(["mt_bench", *TASKS], 8)
    assert [p.labels["raw_category"] for p in prompts if p.category == "mt_bench" and p.labels] == CATEGORIES
    assert prompts[0] == Prompt(
        prompt_id="81", category="mt_bench", turns=("Say a.", "Say b."), labels={"raw_category": "writing"}
    )


def test_all_thirteen_categories_on_request(path: str) -> None:
    prompts = datasets.load(SpecBenchDataset(path=path, grouped=False), seed=0).prompts
    assert {prompt.category for prompt in prompts} == {*CATEGORIES, *TASKS}


def test_a_subset_is_drawn_over_the_reported_groups(path: str) -> None:
    prompts = datasets.load(SpecBenchDataset(path=path, num_prompts=6), seed=0).prompts
    assert Counter(prompt.category for prompt in prompts) == dict.fromkeys(["mt_bench", *TASKS], 1)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"question_id": 1, "category": "poetry", "turns": ["a"]}, "category='poetry': none of Spec-Bench's, .*rag"),
        ({"category": "qa", "turns": ["a"]}, "lacks question_id"),
        ({}, "lacks question_id, category, turns .has nothing."),
        ({"question_id": 1, "category": "qa", "turns": "a"}, "turns='a': must be a non-empty list"),
    ],
)
def test_what_is_no_question_is_refused_by_line(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    file = tmp_path / "question.jsonl"
    file.write_text(json.dumps(question(1, "qa")) + "\n" + json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(DatasetError, match=rf"question\.jsonl:2: .*{words}"):
        datasets.load(SpecBenchDataset(path=str(file)), seed=0)
