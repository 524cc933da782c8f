"""What a dataset's file is, told by its content: read, or named in one line. Nothing that is waited for is opened."""

import bz2
import functools
import gzip
import json
import lzma
import os
import socket
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
from specdec_bench.datasets import rows
from specdec_bench.errors import DatasetError
from specdec_bench.records.request import Prompt

ROWS = [{"prompt_id": "a", "prompt": "x = 1"}, {"prompt_id": "b", "prompt": "y = 2"}]
PROMPTS = [
    Prompt(prompt_id="a", category="default", turns=("x = 1",)),
    Prompt(prompt_id="b", category="default", turns=("y = 2",)),
]
LINES = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)
ARRAY = json.dumps(ROWS, indent=1).encode()
WRAPPED = json.dumps({"data": ROWS}, indent=1).encode()
BOM = b"\xef\xbb\xbf"
pack = functools.partial(gzip.compress, mtime=0)


def load(path: Path) -> list[Prompt]:
    return datasets.load(JsonlDataset(path=str(path)), seed=0).prompts


def refused(path: Path | str, schema: type[DatasetConfig] = JsonlDataset, **options: Any) -> str:
    with pytest.raises(DatasetError) as caught:
        datasets.load(schema(path=str(path), **options), seed=0)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


# ---------------------------------------------------------------- what is read


@pytest.mark.parametrize("name", ["p.jsonl", "p.json", "p.txt", "p", "p.jsonl.gz", "p.csv"])
@pytest.mark.parametrize(
    "content",
    [
        LINES,
        ARRAY,
        BOM + LINES,
        BOM + ARRAY,
        b"\n\n " + ARRAY,
        LINES.replace(b"\n", b"\r\n"),
        pack(LINES),
        pack(BOM + ARRAY),
        pack(LINES[:30]) + pack(LINES[30:]),
    ],
    ids=[
        "lines",
        "array",
        "BOM",
        "BOM, array",
        "blank first",
        "CRLF",
        "gzip",
        "gzip of an array",
        "gzip in two members",
    ],
)
def test_content_decides_and_not_the_name(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert load(path) == PROMPTS


@pytest.mark.parametrize("name", ["p.parquet", "p.jsonl", "p"])
def test_parquet_is_read_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / name)
    assert load(tmp_path / name) == PROMPTS


def test_many_small_items_of_an_array_are_read_in_no_time(tmp_path: Path) -> None:
    """Of 60,000 items in 1 MB each would otherwise copy what follows it: 30 GB."""
    path = tmp_path / "p.json"
    path.write_text("[" + ",".join(['{"a":  12345 }'] * 60_000) + "]", encoding="utf-8")
    assert sum(1 for _ in rows.read_rows(path)) == 60_000


# ---------------------------------------------------------------- what is told what it is


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (bz2.compress(LINES), "compressed with bzip2; unpack it"),
        (lzma.compress(LINES), "compressed with xz; unpack it"),
        (b"\x28\xb5\x2f\xfd" + bytes(20), "compressed with zstd; unpack it"),
        (b"PK\x03\x04" + bytes(20), "a zip archive; unpack it"),
        (pack(b"PAR1" + bytes(20)), "parquet compressed with gzip; unpack it"),
        (pack(pack(LINES)), "compressed with gzip twice; unpack it"),
        (LINES.decode().encode("utf-16"), "UTF-16; save it as UTF-8"),
        (LINES.decode().encode("utf-16-be"), "holds NUL bytes"),
        (LINES.decode().encode("utf-32"), "UTF-32; save it as UTF-8"),
        (LINES[:30] + b"\0" + LINES[30:], "holds NUL bytes"),
        (b"prompt,category\nOne?,math\n", "not JSON, but CSV, which begins with 'prompt,category'"),
        (b"prompt\tcategory\nOne?\tmath\n", r"not JSON, but TSV, which begins with 'prompt\tcategory'"),
        (b"<!DOCTYPE html>\n<p>Not found", "not JSON, but something else, which begins with '<!DOCTYPE html>'"),
        (b"prompts:\n- One?\n", "not JSON, but something else"),
        (b"\x1b]0;owned\x07", r"which begins with '\x1b]0;owned\x07'"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS and not the data"),
        (pack(LINES)[:-9], "gzip, but broken or cut off"),
        (pack(LINES * 999)[:60] + bytes(60), "gzip, but broken or cut off"),
        (WRAPPED, ":1: not JSON: an object over several lines with its rows in 'data', not JSON Lines"),
        (ARRAY[1:-1].replace(b",\n {", b"\n {"), ":2: not JSON: an object over several lines, not JSON Lines"),
        (json.dumps({"data": ROWS}).encode(), ":1: has neither turns nor prompt; its fields are data"),
        (ARRAY + b"\n" + ARRAY, "'[' after the end of the array"),
        (ARRAY + LINES, "'{' after the end of the array"),
        (b'{"prompt": "a", "prompt": "b"}', ":1: not JSON: the key 'prompt' appears twice in one object"),
        (b'[{"prompt": "a"}, {"x": {"y": 1, "y": 2}}]', ":2: the key 'y' appears twice in one object"),
        (b'{"prompt": NaN}', ":1: prompt=.*nan.*: must be a non-empty list"),
        (b'{"prompt": 5}', ":1: prompt=.*5.*: must be a non-empty list"),
        (b'{"prompt": "a", "x": ' + b"[" * 100_000, ":1: not JSON"),
        (b'{"prompt": "a", "x": ' + b"1" * 5000 + b"}", ":1: not JSON: Exceeds the limit"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(content)
    message = refused(path)
    assert message.startswith(str(path))
    before, _, after = words.partition(".*")
    assert before in message
    assert after.rpartition(".*")[2] in message
    assert message.isprintable()


def test_a_row_without_an_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "_MAX_ITEM_CHARACTERS", 1000)
    monkeypatch.setattr(rows, "_CHUNK_BYTES", 100)
    path = tmp_path / "p.jsonl"
    path.write_bytes(LINES + b'{"prompt": "' + b"x" * 2000)
    assert refused(path).endswith("p.jsonl:3: a line of 1,000 bytes or more; no row is that long")
    path.write_bytes(b'[{"prompt": "' + b"x" * 5000)
    assert "p.jsonl:1: not JSON, or cut off" in refused(path)


# ---------------------------------------------------------------- what is no file

FILES: list[tuple[type[DatasetConfig], dict[str, Any]]] = [
    (JsonlDataset, {}),
    (MTBenchDataset, {}),
    (SpecBenchDataset, {}),
    (SpeedBenchDataset, {}),
    (ShareGPTDataset, {}),
    (PreparedDataset, {}),
    (HFDataset, {"prompt_column": "q"}),
]
each_dataset = pytest.mark.parametrize(("schema", "options"), FILES, ids=[schema.__name__ for schema, _ in FILES])


@each_dataset
def test_what_is_no_file_is_named_and_never_waited_for(tmp_path: Path, schema: Any, options: Any) -> None:
    pipe, sock, link = tmp_path / "pipe", tmp_path / "socket", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to("/nowhere")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(sock))
        for path, words in (
            (pipe, "a pipe"),
            (sock, "a socket"),
            (link, "a link to /nowhere, which is not there"),
            ("/dev/null", "a device"),
            ("/dev/zero", "a device"),
            (tmp_path / "nothing", "no such file"),
            (f"{__file__}/", "no such file"),
            (tmp_path / ("x" * 300), "cannot be read: File name too long"),
            ("~nobody_of_that_name/p.jsonl", "no such user"),
        ):
            assert f"dataset.path={path}: {words}" in refused(path, schema, **options)


@each_dataset
def test_a_folder_is_named(tmp_path: Path, schema: Any, options: Any) -> None:
    assert f"dataset.path={tmp_path}: a folder" in refused(tmp_path, schema, **options) or schema is SpeedBenchDataset


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked of the system, for root may read what has no permissions."""
    path = tmp_path / "p.jsonl"
    path.write_bytes(LINES)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "cannot be read: Permission denied" in refused(path)


def test_a_disk_that_fails_is_named(tmp_path: Path) -> None:
    """/proc/self/mem is a file that cannot be read from its beginning."""
    assert refused("/proc/self/mem") == "/proc/self/mem: cannot be read: Input/output error"
