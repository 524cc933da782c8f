"""Conversations of which one side is the dataset's, in their several spellings; what of them is sent."""

import json
from pathlib import Path
from typing import Any

import pytest

from specdec_bench import datasets
from specdec_bench.config.schema.dataset import ShareGPTDataset
from specdec_bench.datasets import REPEATED_ID, Selection
from specdec_bench.datasets.rows import HALF_A_PAIR
from specdec_bench.datasets.sharegpt import (
    BEGINS_WITH_REPLY,
    EMPTY_TURN,
    LATER_SYSTEM,
    NO_HUMAN,
    NO_MESSAGE,
    NO_TEXT,
    TOOLS,
    UNKNOWN_SPEAKER,
)
from specdec_bench.errors import DatasetError
from specdec_bench.records.request import Prompt

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


def select(tmp_path: Path, *rows: Any, name: str = "s.json", **options: Any) -> Selection:
    path = tmp_path / name
    text = json.dumps(rows) if name.endswith("json") else "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return datasets.load(ShareGPTDataset(path=str(path), **options), seed=0)


def load(tmp_path: Path, *rows: Any, name: str = "s.json") -> list[Prompt]:
    return select(tmp_path, *rows, name=name).prompts


def talk(*messages: tuple[str, Any]) -> dict[str, Any]:
    return {"conversations": [{"from": speaker, "value": text} for speaker, text in messages]}


def noted(selection: Selection, kind: str) -> dict[str, str]:
    """The row numbers of each reason."""
    return {reason: tree["rows"] for reason, tree in selection.origin["unused"][kind].items()}


@pytest.mark.parametrize("name", ["s.json", "s.jsonl"])
def test_the_humans_messages_are_the_turns(tmp_path: Path, name: str) -> None:
    assert load(tmp_path, TALK, name=name) == [
        Prompt(prompt_id="QWJhYvA_0", category="default", turns=("One?", "Three?"), system="Be brief.")
    ]


@pytest.mark.parametrize("key", ["conversations", "messages", "conversation"])
def test_roles_and_contents_are_read_too(tmp_path: Path, key: str) -> None:
    messages = [{"role": "user", "content": "One?"}, {"role": "assistant", "content": "Two."}]
    found = select(tmp_path, {"conversations": None, key: messages})
    assert found.prompts == [Prompt(prompt_id="1", category="default", turns=("One?",))]
    assert found.origin["unused"] == {"rows": {}, "parts": {}, "fields": {}, "files": {}}


@pytest.mark.parametrize("human", ["human", "Human", "USER", "user ", "prompter"])
@pytest.mark.parametrize("reply", ["gpt", "GPT", "Assistant", "chatgpt", "bing", "bard", "Model"])
def test_speakers_are_known_in_any_case(tmp_path: Path, human: str, reply: str) -> None:
    (prompt,) = load(tmp_path, talk((human, "One?"), (reply, "Two."), (human, "Three?")))
    assert prompt.turns == ("One?", "Three?")


@pytest.mark.parametrize("speaker", ["system", "System", "developer"])
def test_a_developers_message_is_a_system_message(tmp_path: Path, speaker: str) -> None:
    (prompt,) = load(tmp_path, talk((speaker, "Be brief."), ("human", "One?")))
    assert prompt.system == "Be brief."


def test_a_rows_own_system_prompt_is_the_system_prompt(tmp_path: Path) -> None:
    found = select(
        tmp_path,
        talk(("human", "One?")) | {"system": "Be brief."},
        talk(("system", "Be brief."), ("human", "One?")) | {"system": "Be brief."},
        talk(("system", "Be long."), ("human", "One?")) | {"system": "Be brief."},
        talk(("human", "One?")) | {"system": ""},
    )
    assert [prompt.system for prompt in found.prompts] == ["Be brief."] * 3 + [None]
    assert noted(found, "parts") == {LATER_SYSTEM: "3"}


# ---------------------------------------------------------------- what of a row is left out


def test_what_is_left_out_of_rows_is_noted_with_their_numbers(tmp_path: Path) -> None:
    found = select(
        tmp_path,
        talk(("gpt", "Hello."), ("human", "One?")),
        talk(("human", "One?"), ("system", "Now be rude."), ("human", "Two?")),
        talk(("human", ""), ("human", "  \n"), ("human", "One?")),
        talk(("human", None), ("human", "One?")),
        talk(("human", "One?"), ("Function-Call", "f()"), ("observation", "3"), ("gpt", "Three.")),
        talk(("human", "One?")) | {"tools": "[f]"},
        talk(("system", "Be brief."), ("developer", "In French."), ("gpt", "Hello."), ("human", "One?")),
        talk(("human", "One?"), ("human", "Two?"), ("gpt", "Three.")),
    )
    assert [prompt.turns for prompt in found.prompts] == [
        *(("One?",), ("One?", "Two?"), ("One?",), ("One?",), ("One?",), ("One?",), ("One?",)),
        ("One?", "Two?"),
    ]
    assert noted(found, "parts") == {
        BEGINS_WITH_REPLY: "1, 7",
        LATER_SYSTEM: "2, 7",
        EMPTY_TURN: "3-4",
        TOOLS: "5-6",
    }
    assert found.prompts[6].system == "Be brief."
    assert noted(found, "rows") == {}


def test_a_reply_needs_no_text(tmp_path: Path) -> None:
    """One that calls a tool has none; none of it is sent."""
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "t"}]}
    said = {"role": "tool", "content": [{"type": "image_url"}]}
    row = {"messages": [{"role": "user", "content": "Rain?"}, call, said, {"role": "assistant"}]}
    found = select(tmp_path, row)
    assert [prompt.turns for prompt in found.prompts] == [("Rain?",)]
    assert noted(found, "parts") == {TOOLS: "1"}


@pytest.mark.parametrize(
    "content",
    ["A\nB", [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}], ["A", "B"], [{"text": "A\nB"}]],
)
def test_parts_of_text_are_joined(tmp_path: Path, content: Any) -> None:
    messages = [{"role": "system", "content": content}, {"role": "user", "content": content}]
    (prompt,) = load(tmp_path, {"messages": messages})
    assert (prompt.system, prompt.turns) == ("A\nB", ("A\nB",))


# ---------------------------------------------------------------- rows that are not used


def test_rows_that_are_not_used_are_noted_with_their_numbers(tmp_path: Path) -> None:
    image = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "u"}}]
    found = select(
        tmp_path,
        talk(),
        talk(("gpt", "Hi.")),
        TALK,
        talk(("gpt", "Hello."), ("human", " ")),
        talk(("human", image)),
        talk(("human", "One?"), ("Narrator", "Night fell.")),
        talk(("gpt", "Hello."), ("human", "half \ud83d")),
    )
    assert [prompt.prompt_id for prompt in found.prompts] == ["QWJhYvA_0"]
    unused = found.origin["unused"]
    assert noted(found, "rows") == {
        NO_MESSAGE: "1",
        NO_HUMAN: "2, 4",
        NO_TEXT: "5",
        UNKNOWN_SPEAKER: "6",
        HALF_A_PAIR: "7",
    }
    assert unused["rows"][NO_TEXT]["examples"] == ["'image_url'"]
    assert unused["rows"][UNKNOWN_SPEAKER]["examples"] == ["'Narrator'"]
    assert unused["parts"] == {}, "of rows that are used"
    assert (found.origin["num_rows"], found.origin["num_usable"]) == (7, 1)


def test_the_proportions_of_a_real_file(tmp_path: Path) -> None:
    """Of 200 rows, 2 are empty, 70 begin with a reply (of which 3 hold nothing else) and 2 ids stand twice."""
    rows = [talk(("human", "One?"), ("gpt", "Two.")) | {"id": f"t_{number}"} for number in range(1, 201)]
    for number in (11, 42):
        rows[number - 1] = talk() | {"id": f"t_{number}"}
    for number in range(101, 171):
        rows[number - 1] = talk(("gpt", "Zero."), *[("human", "One?")] * (number > 103)) | {"id": f"t_{number}"}
    rows[180 - 1]["id"], rows[190 - 1]["id"] = "t_1", "t_2"
    found = select(tmp_path, *rows)
    assert len(found.prompts) == 200 - 2 - 3
    assert noted(found, "rows") == {NO_MESSAGE: "11, 42", NO_HUMAN: "101-103"}
    assert noted(found, "parts") == {BEGINS_WITH_REPLY: "104-170", REPEATED_ID: "180, 190"}
    repeated = found.origin["unused"]["parts"][REPEATED_ID]
    assert repeated["examples"] == [
        "'t_1' of rows 1 and 180",
        "'t_2' of rows 2 and 190",
    ]
    ids = [prompt.prompt_id for prompt in found.prompts]
    assert len(set(ids)) == len(ids)
    assert {"t_1", "t_1#180", "t_2", "t_2#190"} <= set(ids)


def test_no_id_that_is_made_is_there_already(tmp_path: Path) -> None:
    rows = [talk(("human", "One?")) | {"id": name} for name in ("a#3", "a", "a", "a#3")]
    assert [prompt.prompt_id for prompt in load(tmp_path, *rows)] == ["a#3", "a", "a#3#", "a#3#4"]


def test_a_subset_has_the_ids_of_the_whole(tmp_path: Path) -> None:
    """The file is read twice for it, and what is not used is counted once."""
    rows = [talk(), *(talk(("human", f"{number}?")) | {"id": "a"} for number in range(9))]
    whole = select(tmp_path, *rows)
    found = select(tmp_path, *rows, num_prompts=4)
    assert set(found.prompts) < set(whole.prompts)
    assert len(found.prompts) == 4
    assert found.origin == whole.origin
    assert noted(found, "rows") == {NO_MESSAGE: "1"}


# ---------------------------------------------------------------- what is no conversation


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"text": "a"}, "not a conversation: lacks a list of conversations .has text."),
        ({"conversations": "a"}, "lacks a list of conversations"),
        ({"conversations": ["a"]}, "conversations: 'a': must have the strings from and value"),
        ({"conversations": [{"from": "human"}]}, "must have the strings from and value"),
        ({"conversations": [{"from": 1, "value": "a"}]}, "must have the strings from and value"),
        ({"conversations": [{"from": "human", "value": 5}]}, "conversations: human: 5: must be a string, or a list"),
        (TALK | {"system": 5}, "system: 5: must be a string"),
        (TALK | {"id": ["x"]}, "id=.*must be a string or a whole number"),
    ],
)
def test_what_is_no_conversation_is_refused_by_row(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    with pytest.raises(DatasetError, match=rf"s\.json:2: .*{words}"):
        load(tmp_path, TALK, row)


def test_a_file_of_nothing_that_is_used_says_why(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no prompts in it .2 ROWS NOT USED: without a message .2 rows: 1-2.."):
        load(tmp_path, talk(), talk())
