"""Files of every kind, whole, cut off and broken."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from specdec_bench.datasets import rows
from specdec_bench.errors import DatasetError


def read(path: Path) -> list[tuple[int, dict[str, Any]]]:
    return list(rows.read_rows(path))


# ---------------------------------------------------------------- a JSON array


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_gives_the_same_rows_as_lines(tmp_path: Path, indent: int | None) -> None:
    content = [{"id": i, "text": 'brackets ]}, and "quotes" \\ é 😀' * i} for i in range(5)]
    array, lines = tmp_path / "a.json", tmp_path / "a.jsonl"
    array.write_text(json.dumps(content, indent=indent, ensure_ascii=False), encoding="utf-8")
    lines.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
    assert read(array) == read(lines) == list(enumerate(content, start=1))


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 50])
def test_where_a_chunk_ends_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(rows, "_CHUNK_BYTES", chunk)
    content = [{"a": "é😀"}, {"b": [1, {"c": "}"}]}, {}]
    path = tmp_path / "a.json"
    path.write_text("\ufeff " + json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    assert [row for _, row in read(path)] == content


def test_json_lines_may_be_called_json(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": 1}\n{"a": 2}\n', encoding="utf-8")
    assert read(path) == [(1, {"a": 1}), (2, {"a": 2})]


def test_an_empty_array_has_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(" [ ] ", encoding="utf-8")
    assert read(path) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'[{"a": 1}', "a.json:1: 'the end' after this object"),
        (b'[{"a": 1}, {"a": ', "a.json:2: not JSON, or cut off"),
        (b'[{"a": 1}, ', "a.json:2: 'the end' where an object must begin"),
        (b"[1]", "a.json:1: '1' where an object must begin"),
        (b'[{"a": 1} {"a": 2}]', "a.json:1: '{' after this object"),
        (b'[{"a": 1}, {a: 2}]', "a.json:2: not JSON, or cut off"),
        (b'[{"a": "\xff"}]', "a.json:1: not UTF-8"),
        (b"[" + b'{"a":' * 100_000, "a.json:1: not JSON"),
    ],
)
def test_a_broken_array_is_named_with_the_row(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=words):
        read(path)


def test_an_array_is_read_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with path.open("w", encoding="utf-8") as file:
        file.write("[" + ",".join(json.dumps({"text": "x" * 50_000}) for _ in range(600)) + "]")
    assert path.stat().st_size > 30e6
    tracemalloc.start()
    try:
        assert sum(len(row["text"]) for _, row in rows.read_rows(path)) == 600 * 50_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12e6


# ---------------------------------------------------------------- parquet


def test_a_parquet_file_gives_its_rows(tmp_path: Path) -> None:
    content = [{"a": i, "turns": ["é", "x" * i], "none": None} for i in range(200)]
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(content), path, row_group_size=70)
    assert read(path) == list(enumerate(content, start=1))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all", b"PAR1" + bytes(100) + b"PAR1"])
def test_what_is_no_parquet_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"a\.parquet: cannot be read as parquet") as caught:
        read(path)
    assert len(str(caught.value).splitlines()) == 1


def test_bytes_that_are_no_text_are_refused_in_parquet_too(tmp_path: Path) -> None:
    bad = pyarrow.array([b"fine", b"\xff\xfe"], pyarrow.binary()).view(pyarrow.string())
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": bad}), path)
    with pytest.raises(DatasetError, match=r"a\.parquet:1: not UTF-8 there or soon after"):
        read(path)
