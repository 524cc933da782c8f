"""Conversations of which one side is the dataset's, in their several spellings."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from specdec_bench import datasets
from specdec_bench.config.schema import ShareGPTDataset
from specdec_bench.errors import DatasetError
from specdec_bench.records import Prompt

TALK = {
    "id": "QWJhYvA_0",
    "conversations": [
        {"from": "system", "value": "Be brief."},
        {"from": "human", "value": "One?"},
        {"from": "gpt", "value": "Two."},
        {"from": "human", "value": "Three?"},
        {"from": "gpt", "value": "Four."},
    ],
}


def load(tmp_path: Path, *rows: Any, name: str = "s.json") -> list[Prompt]:
    path = tmp_path / name
    text = json.dumps(rows) if name.endswith("json") else "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return datasets.load(ShareGPTDataset(path=str(path)), seed=0)


@pytest.mark.parametrize("name", ["s.json", "s.jsonl"])
def test_the_humans_messages_are_the_turns(tmp_path: Path, name: str) -> None:
    assert load(tmp_path, TALK, name=name) == [
        Prompt(prompt_id="QWJhYvA_0", category="default", turns=("One?", "Three?"), system="Be brief.")
    ]


def test_roles_and_contents_are_read_too(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "One?"}, {"role": "assistant", "content": "Two."}]
    assert load(tmp_path, {"messages": messages}) == [Prompt(prompt_id="1", category="default", turns=("One?",))]


def test_a_conversation_without_a_human_is_passed_over_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    silent = [{"id": "a", "conversations": []}, {"id": "b", "conversations": [{"from": "gpt", "value": "Hi."}]}]
    with caplog.at_level(logging.INFO):
        assert [prompt.prompt_id for prompt in load(tmp_path, silent[0], TALK, silent[1])] == ["QWJhYvA_0"]
    assert "2 conversations without a human's message were passed over" in caplog.text


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"text": "a"}, "no conversation: lacks a list of conversations .has text."),
        ({"conversations": "a"}, "lacks a list of conversations"),
        ({"conversations": ["a"]}, "conversations: 'a': must have the strings from and value"),
        ({"conversations": [{"from": "human"}]}, "must have the strings from and value"),
        ({"conversations": [{"from": "human", "value": None}]}, "must have the strings from and value"),
        (TALK | {"id": ["x"]}, "id=.*must be a string or a whole number"),
    ],
)
def test_what_is_no_conversation_is_refused_by_row(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    with pytest.raises(DatasetError, match=rf"s\.json:2: .*{words}"):
        load(tmp_path, TALK, row)


def test_two_conversations_with_one_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="'QWJhYvA_0' stands twice"):
        load(tmp_path, TALK, TALK)
