"""Datasets whose columns the user names, from local files; and the hub's where there is no hub."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from specdec_bench import datasets, hub
from specdec_bench.config.schema.dataset import HFDataset
from specdec_bench.datasets.rows import HALF_A_PAIR
from specdec_bench.datasets.sharegpt import BEGINS_WITH_REPLY, NO_HUMAN, NO_MESSAGE
from specdec_bench.errors import ConfigError, DatasetError
from specdec_bench.records.request import Prompt


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    first, second = [{"from": "human", "value": "Q"}], [{"role": "user", "content": "R"}]
    rows = [
        {"key": 7, "question": "One?", "kind": "math", "turns": ["One?", "Two?"], "talk": first},
        {"key": 8, "question": "Three?", "kind": "code", "turns": ["Three?"], "talk": second},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_the_named_columns_are_read(file: Path) -> None:
    config = HFDataset(path=str(file), prompt_column="question", id_column="key", category_column="kind")
    assert datasets.load(config, seed=0).prompts == [
        Prompt(prompt_id="7", category="math", turns=("One?",)),
        Prompt(prompt_id="8", category="code", turns=("Three?",)),
    ]


@pytest.mark.parametrize(
    ("column", "turns"),
    [
        ({"turns_column": "turns"}, [("One?", "Two?"), ("Three?",)]),
        ({"conversations_column": "talk"}, [("Q",), ("R",)]),
    ],
)
def test_all_turns_are_read(file: Path, column: dict[str, str], turns: list[tuple[str, ...]]) -> None:
    found = datasets.load(HFDataset(path=str(file), **column), seed=0).prompts  # type: ignore[arg-type]
    assert [prompt.turns for prompt in found] == turns
    assert [prompt.prompt_id for prompt in found] == ["1", "2"]


def test_a_folders_files_are_read_in_order_and_numbered_through(tmp_path: Path) -> None:
    for name, texts in (("b", ["3"]), ("a", ["1", "2"])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"q": t}) + "\n" for t in texts), encoding="utf-8")
    found = datasets.load(HFDataset(path=str(tmp_path), prompt_column="q"), seed=0).prompts
    assert [(prompt.prompt_id, prompt.turns[0]) for prompt in found] == [("1", "1"), ("2", "2"), ("3", "3")]


def test_a_parquet_folder_is_read(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"q": ["1", "2"]}), tmp_path / "train-00000-of-00001.parquet")
    found = datasets.load(HFDataset(path=str(tmp_path), prompt_column="q"), seed=0).prompts
    assert [prompt.turns for prompt in found] == [("1",), ("2",)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt_column": "text"}, r"train\.jsonl:1: has no column text; its columns are key, question"),
        ({"turns_column": "question"}, r"train\.jsonl:1: turns='One\?': must be a non-empty list"),
        ({}, r"pass dataset\.prompt_column=COLUMN"),
        ({"prompt_column": "question", "id": "a/b"}, r"give one of dataset\.id=OWNER/NAME and dataset\.path="),
        ({"prompt_column": "question", "path": "/nowhere"}, r"dataset\.path=/nowhere: no such file"),
    ],
)
def test_what_cannot_be_read_is_refused(file: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        datasets.load(HFDataset(**({"path": str(file)} | changes)), seed=0)


def test_two_columns_for_the_turns_are_refused() -> None:
    with pytest.raises(ConfigError, match="a, b: give one of prompt_column, turns_column"):
        HFDataset(prompt_column="a", turns_column="b")


def test_without_a_hub_one_line_says_what_to_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(hub, "is_offline_by_choice", lambda: False)
    monkeypatch.setattr(hub, "is_reachable", lambda: False)
    with pytest.raises(DatasetError, match=r"dataset\.id=a/b: the hub cannot be reached .*; pass dataset\.path="):
        datasets.load(HFDataset(id="a/b", prompt_column="q"), seed=0)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DatasetError, match=r"dataset\.id=a/b: needs the datasets library; install specdec-bench\[hf\]"):
        datasets.load(HFDataset(id="a/b", prompt_column="q"), seed=0)


def test_rows_without_a_question_are_left_out_by_name(tmp_path: Path) -> None:
    """Sets of the hub hold some, and no run can mend them."""
    path = tmp_path / "p.jsonl"
    human = {"from": "human", "value": "Q"}
    rows: list[dict[str, Any]] = [
        {"q": "One?", "talk": [human]},
        {"q": "", "talk": [{"from": "gpt", "value": "R"}]},
        {"q": None, "talk": []},
        {"q": "half \ud83d", "talk": [{"from": "gpt", "value": "R"}, human]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = datasets.load(HFDataset(path=str(path), prompt_column="q"), seed=0)
    assert [prompt.prompt_id for prompt in found.prompts] == ["1"]
    assert {name: tree["rows"] for name, tree in found.origin["unused"]["rows"].items()} == {
        "with an empty 'q'": "2-3",
        HALF_A_PAIR: "4",
    }
    found = datasets.load(HFDataset(path=str(path), conversations_column="talk"), seed=0)
    assert [prompt.prompt_id for prompt in found.prompts] == ["1", "4"]
    unused = found.origin["unused"]
    assert {name: tree["rows"] for name, tree in unused["rows"].items()} == {NO_HUMAN: "2", NO_MESSAGE: "3"}
    assert {name: tree["rows"] for name, tree in unused["parts"].items()} == {BEGINS_WITH_REPLY: "4"}


def test_a_folders_other_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"q": "One?"}\n', encoding="utf-8")
    for name in ("train.csv", "README.md", ".hidden.jsonl", "b.jsonl.gz"):
        (tmp_path / name).write_bytes(b'{"q": "Two?"}\n')
    found = datasets.load(HFDataset(path=str(tmp_path), prompt_column="q"), seed=0)
    assert [prompt.turns[0] for prompt in found.prompts] == ["One?", "Two?"]
    assert found.origin["unused"]["files"] == {"train.csv": {"num_rows": 0, "rows": ""}}
