"""Fields of a row that nothing reads: named in the manifest; refused where they would be taken for a setting."""

import json
from pathlib import Path
from typing import Any

import pytest

from specdec_bench import datasets
from specdec_bench.config.schema.dataset import (
    DatasetConfig,
    HFDataset,
    JsonlDataset,
    MTBenchDataset,
    ShareGPTDataset,
    SpecBenchDataset,
    SpeedBenchDataset,
)
from specdec_bench.errors import DatasetError

QUESTION = {"question_id": 1, "category": "math", "turns": ["One?"]}


def write(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("schema", "options", "row"),
    [
        (JsonlDataset, {}, {"prompt": "One?"}),
        (MTBenchDataset, {}, QUESTION),
        (SpecBenchDataset, {}, QUESTION),
        (SpeedBenchDataset, {}, QUESTION),
        (ShareGPTDataset, {}, {"conversations": [{"from": "human", "value": "One?"}]}),
        (HFDataset, {"prompt_column": "q"}, {"q": "One?"}),
    ],
)
def test_they_are_noted_by_name_and_row(
    tmp_path: Path, schema: type[DatasetConfig], options: dict[str, Any], row: dict[str, Any]
) -> None:
    config = schema(path=write(tmp_path / "p.jsonl", row | {"answer": "Two.", "nan": float("nan")}), **options)
    unused = datasets.load(config, seed=0).origin["unused"]
    assert unused["fields"] == {"answer": {"num_rows": 1, "rows": "1"}, "nan": {"num_rows": 1, "rows": "1"}}
    assert unused["rows"] == unused["parts"] == {}


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("max_tokens", "a row's own limit is max_new_tokens"),
        ("max_completion_tokens", "a row's own limit is max_new_tokens"),
        ("temperature", "sampling is the experiment's"),
        ("stop", "sampling is the experiment's"),
        ("system_prompt", "a row's system prompt is system"),
        ("messages", "dataset=sharegpt reads those"),
        ("catagory", "is category meant?"),
        ("Prompt", "is prompt meant?"),
        ("max_new_token", "is max_new_tokens meant?"),
    ],
)
def test_what_looks_like_a_setting_is_refused(tmp_path: Path, field: str, words: str) -> None:
    path = write(tmp_path / "p.jsonl", {"prompt": "One?"}, {"prompt": "Two?", field: 5})
    with pytest.raises(DatasetError, match=rf"p\.jsonl:2: '{field}': 5: nothing reads this field; ") as caught:
        datasets.load(JsonlDataset(path=path), seed=0)
    assert words in str(caught.value)


@pytest.mark.parametrize("limit", [2**31, 10**30, 0, -1, True, 7.0])
def test_a_rows_own_limit_has_bounds(tmp_path: Path, limit: Any) -> None:
    path = write(tmp_path / "p.jsonl", {"prompt": "One?", "max_new_tokens": limit})
    with pytest.raises(DatasetError, match=r"p\.jsonl:1: max_new_tokens=.*: must be a whole number of at least 1"):
        datasets.load(JsonlDataset(path=path), seed=0)


def test_an_empty_id_and_an_empty_category_are_none(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {"prompt": "One?", "prompt_id": "", "category": ""})
    (prompt,) = datasets.load(JsonlDataset(path=path), seed=0).prompts
    assert (prompt.prompt_id, prompt.category) == ("1", "default")


@pytest.mark.parametrize("value", [True, 1.0, [], {}, ["a"]])
def test_an_id_is_a_string_or_a_whole_number(tmp_path: Path, value: Any) -> None:
    path = write(tmp_path / "p.jsonl", {"prompt": "One?", "prompt_id": value})
    with pytest.raises(DatasetError, match=r"p\.jsonl:1: prompt_id=.*: must be a string or a whole number"):
        datasets.load(JsonlDataset(path=path), seed=0)


def test_ids_of_any_characters_stay_apart(tmp_path: Path) -> None:
    """Requests are told apart by ID/TURN/REPEAT."""
    ids = ["a", "a/0", "a/0/0", "/", " ", "\x1b[31m", "\x00", "é", "e\u0301"]
    path = write(tmp_path / "p.jsonl", *({"prompt": "One?", "prompt_id": name} for name in ids))
    prompts = datasets.load(JsonlDataset(path=path), seed=0).prompts
    assert [prompt.prompt_id for prompt in prompts] == ids
    requests = {f"{p.prompt_id}/{turn}/{repeat}" for p in prompts for turn in range(2) for repeat in range(2)}
    assert len(requests) == 4 * len(ids)


@pytest.mark.parametrize("field", ["prompt", "system", "prompt_id", "category"])
def test_half_a_surrogate_pair_is_named_by_row(tmp_path: Path, field: str) -> None:
    path = write(tmp_path / "p.jsonl", {"prompt": "One?"}, {"prompt": "Two?", field: "half \ud83d"})
    with pytest.raises(DatasetError, match=r"p\.jsonl:2: holds half a surrogate pair, which no tokenizer takes"):
        datasets.load(JsonlDataset(path=path), seed=0)
