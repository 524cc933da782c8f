"""Every loader that reads a file, on a file that is empty, cut off, not text, or has an id twice: one line each."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from specdec_bench import datasets
from specdec_bench.config.schema.dataset import (
    DatasetConfig,
    HFDataset,
    JsonlDataset,
    MTBenchDataset,
    PreparedDataset,
    ShareGPTDataset,
    SpecBenchDataset,
    SpeedBenchDataset,
)
from specdec_bench.datasets.prepare import prepare
from specdec_bench.errors import DatasetError

QUESTION = {"question_id": 1, "category": "math", "turns": ["é?"]}
LOADERS: list[tuple[type[DatasetConfig], dict[str, Any], dict[str, Any]]] = [
    (MTBenchDataset, {}, QUESTION),
    (SpecBenchDataset, {}, QUESTION),
    (SpeedBenchDataset, {}, QUESTION),
    (ShareGPTDataset, {}, {"id": "1", "conversations": [{"from": "human", "value": "é?"}]}),
    (JsonlDataset, {}, {"prompt_id": "1", "prompt": "é?"}),
    (HFDataset, {"prompt_column": "q", "id_column": "key"}, {"key": "1", "q": "é?"}),
]
each_loader = pytest.mark.parametrize(("schema", "options", "row"), LOADERS, ids=[s.__name__ for s, _, _ in LOADERS])


def refused(schema: type[DatasetConfig], options: dict[str, Any], path: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        datasets.load(schema(path=str(path), **options), seed=0)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@each_loader
def test_the_row_itself_is_good(tmp_path: Path, schema: Any, options: Any, row: dict[str, Any]) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text(json.dumps(row), encoding="utf-8")
    assert [prompt.turns for prompt in datasets.load(schema(path=str(path), **options), seed=0).prompts] == [("é?",)]


@each_loader
def test_bad_lines(tmp_path: Path, schema: Any, options: Any, row: dict[str, Any]) -> None:
    path, good = tmp_path / "f.jsonl", json.dumps(row, ensure_ascii=False)
    for content, words in (
        (b"", "no prompts in it"),
        (b"\n \n", "no prompts in it"),
        (good.encode()[:-1], "f.jsonl:1: not JSON"),
        (good.encode("latin-1"), "f.jsonl:1: not UTF-8"),
        (b"\x00\x01\x02", "f.jsonl: holds NUL bytes"),
        (b"[]\n", "no prompts in it"),
        (b"[1]\n", "f.jsonl:1: '1' where an object must begin"),
    ):
        path.write_bytes(content)
        assert words in refused(schema, options, path), content


@each_loader
def test_an_id_that_stands_twice(tmp_path: Path, schema: Any, options: Any, row: dict[str, Any]) -> None:
    """ShareGPT's files hold some, and no other column to choose; of all others both rows are named."""
    path = tmp_path / "f.jsonl"
    path.write_text(f"{json.dumps(row)}\n\n{json.dumps(row)}\n", encoding="utf-8")
    if schema is ShareGPTDataset:
        assert [prompt.prompt_id for prompt in datasets.load(schema(path=str(path)), seed=0).prompts] == ["1", "1#3"]
    else:
        assert "f.jsonl: the id '1' appears twice, in rows 1 and 3" in refused(schema, options, path)


@each_loader
def test_bad_parquet(tmp_path: Path, schema: Any, options: Any, row: dict[str, Any]) -> None:
    path = tmp_path / "f.parquet"
    parquet.write_table(pyarrow.Table.from_pylist([row, row]), path)
    if schema is not ShareGPTDataset:
        assert "'1' appears twice, in rows 1 and 2" in refused(schema, options, path)
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], whole[:-4] + b"XXXX"):
        path.write_bytes(content)
        assert "f.parquet: cannot be read as parquet" in refused(schema, options, path)
    parquet.write_table(pyarrow.Table.from_pylist([row]).slice(1), path)
    assert "no prompts in it" in refused(schema, options, path)


def test_a_prepared_file_that_was_cut_off(tmp_path: Path) -> None:
    (tmp_path / "f.jsonl").write_text(json.dumps({"prompt": "é?"}), encoding="utf-8")
    path = tmp_path / "p.parquet"
    prepare(JsonlDataset(path=str(tmp_path / "f.jsonl")), path)
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2]):
        path.write_bytes(content)
        assert "p.parquet: cannot be read as parquet" in refused(PreparedDataset, {}, path)
