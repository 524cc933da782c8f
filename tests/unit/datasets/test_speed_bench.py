"""Rows in SPEED-Bench's own format, with and without placeholders, in the encodings that parquet files have."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from specdec_bench import datasets
from specdec_bench.config.schema.dataset import SpeedBenchDataset
from specdec_bench.datasets.speed_bench.resolver import PLACEHOLDER
from specdec_bench.errors import ConfigError, DatasetError
from specdec_bench.records.request import Prompt

ROW = {
    "question_id": "0a1b",
    "category": "coding",
    "sub_category": "python",
    "turns": ["Write a sort.", "Make it stable."],
    "source": "https://example.org/set",
    "src_id": "set_12",
    "difficulty": "hard",
    "multiturn": True,
}
TIER = ROW | {
    "category": "low_entropy",
    "sub_category": None,
    "difficulty": None,
    "multiturn": False,
    "turns": ["Sort."],
}


def write(path: Path, *rows: dict[str, Any]) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_the_row_format_of_the_qualitative_split(tmp_path: Path) -> None:
    assert datasets.load(SpeedBenchDataset(path=write(tmp_path / "q.jsonl", ROW)), seed=0).prompts == [
        Prompt(
            prompt_id="0a1b",
            category="coding",
            turns=("Write a sort.", "Make it stable."),
            labels={
                "sub_category": "python",
                "difficulty": "hard",
                "source": "https://example.org/set",
                "src_id": "set_12",
            },
        )
    ]


@pytest.mark.parametrize(
    "split", ["throughput_1k", "throughput_2k", "throughput_8k", "throughput_16k", "throughput_32k"]
)
def test_the_category_of_the_throughput_splits_is_the_entropy_tier(tmp_path: Path, split: str) -> None:
    rows = [TIER | {"question_id": tier, "category": tier} for tier in ("low_entropy", "mixed", "high_entropy")]
    found = datasets.load(SpeedBenchDataset(path=write(tmp_path / "t.jsonl", *rows), split=split), seed=0).prompts
    assert [prompt.category for prompt in found] == ["low_entropy", "mixed", "high_entropy"]
    assert found[0].labels == {"source": "https://example.org/set", "src_id": "set_12"}


@pytest.mark.parametrize("string", ["string", "large_string", "dictionary"])
@pytest.mark.parametrize("as_list", ["list_", "large_list"])
def test_every_encoding_of_parquet_is_the_same_prompt(tmp_path: Path, string: str, as_list: str) -> None:
    """`datasets` writes list<string>, pandas and polars also large ones and dictionaries."""
    plain = pyarrow.large_string() if string == "large_string" else pyarrow.string()
    text = pyarrow.dictionary(pyarrow.int32(), plain) if string == "dictionary" else plain
    types = {"turns": getattr(pyarrow, as_list)(plain), "multiturn": pyarrow.bool_()}
    table = pyarrow.table({key: pyarrow.array([value], types.get(key, text)) for key, value in ROW.items()})
    parquet.write_table(table, tmp_path / "test.parquet")
    found = datasets.load(SpeedBenchDataset(path=str(tmp_path / "test.parquet")), seed=0).prompts
    assert found == datasets.load(SpeedBenchDataset(path=write(tmp_path / "q.jsonl", ROW)), seed=0).prompts


@pytest.mark.parametrize("turns", [[PLACEHOLDER], [f"{PLACEHOLDER}\n\nSummarize {{article}}"], ["Fine.", PLACEHOLDER]])
def test_placeholders_are_refused_by_id(tmp_path: Path, turns: list[str]) -> None:
    rows = [
        ROW,
        ROW | {"question_id": "p1", "turns": turns},
        ROW | {"question_id": "ok"},
        ROW | {"question_id": "p2", "turns": turns},
    ]
    with pytest.raises(DatasetError, match=r"2 prompts are placeholders, .*: p1, p2; make them with specdec-bench"):
        datasets.load(SpeedBenchDataset(path=write(tmp_path / "q.jsonl", *rows)), seed=0)


def test_a_subset_without_the_placeholder_is_refused_too(tmp_path: Path) -> None:
    """Whether a run works must not depend on the draw."""
    rows = [ROW | {"question_id": str(i)} for i in range(9)] + [ROW | {"question_id": "p", "turns": [PLACEHOLDER]}]
    for seed in range(3):
        with pytest.raises(DatasetError, match="1 prompts are placeholders, not prompts: p;"):
            datasets.load(SpeedBenchDataset(path=write(tmp_path / "q.jsonl", *rows), num_prompts=1), seed=seed)


@pytest.mark.parametrize("name", ["qualitative/test.jsonl", "qualitative.jsonl"])
def test_a_folder_holds_the_splits(tmp_path: Path, name: str) -> None:
    write(tmp_path / "throughput_1k.jsonl", TIER)
    path = write(tmp_path / name, ROW)
    if name == "qualitative/test.jsonl":
        parquet.write_table(pyarrow.Table.from_pylist([ROW]), Path(path).with_suffix(".parquet"))
    assert datasets.load(SpeedBenchDataset(path=str(tmp_path)), seed=0).prompts[0].category == "coding"
    tiers = datasets.load(SpeedBenchDataset(path=str(tmp_path), split="throughput_1k"), seed=0).prompts
    assert tiers[0].category == "low_entropy"
    with pytest.raises(DatasetError, match=r"nor a folder that holds throughput_2k/\*\.parquet"):
        datasets.load(SpeedBenchDataset(path=str(tmp_path), split="throughput_2k"), seed=0)


def test_what_is_no_row_of_the_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"q\.jsonl:1: category='coding': none of dataset\.split=throughput_8k's"):
        datasets.load(SpeedBenchDataset(path=write(tmp_path / "q.jsonl", ROW), split="throughput_8k"), seed=0)
    with pytest.raises(DatasetError, match=r"q\.jsonl:1: not a SPEED-Bench prompt: lacks question_id"):
        datasets.load(SpeedBenchDataset(path=write(tmp_path / "q.jsonl", ROW | {"question_id": None})), seed=0)
    with pytest.raises(DatasetError, match="dataset=speed_bench: needs its file; pass"):
        datasets.load(SpeedBenchDataset(), seed=0)
    with pytest.raises(ConfigError, match=r"dataset\.split=all: use one of qualitative, throughput_1k"):
        SpeedBenchDataset(split="all")
