"""Requests as CSV and parquet, as a spreadsheet and pandas read them."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from specdec_bench.archive import load
from specdec_bench.archive.frame import COLUMNS
from specdec_bench.metrics.acceptance import pool
from specdec_bench.records.request import RequestRecord
from specdec_bench.report import request_tables
from specdec_bench.report.request_tables import csv_chunks, parquet_bytes
from tests.helpers.archive_samples import HOSTILE, make_prompt
from tests.helpers.made_archives import reply, write_run

PROMPTS = [make_prompt(number) for number in range(3)]
RECORDS = [
    reply(PROMPTS[0], [3, 1, 0], phase="warmup"),
    reply(PROMPTS[0], [3, 1, 0]),
    reply(PROMPTS[1], [2, 2]),
    reply(PROMPTS[2], [0, 1, 1, 3]),
]


def frame_of(folder: Path, records: list[RequestRecord], **changes: Any) -> pd.DataFrame:
    write_run(folder, records, PROMPTS, text=lambda _: "", **changes)
    return load(folder)


def rows_of(frame: pd.DataFrame) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(b"".join(csv_chunks(frame)).decode())))


def test_parquet_has_the_figures_of_the_summary(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", RECORDS, PROMPTS)
    table = pd.read_parquet(io.BytesIO(parquet_bytes(load(run.path))))
    pooled = run.summary().acceptance.pooled
    measured = table[table.phase == "measure"]
    assert 1 + measured.num_accepted.sum() / measured.num_verify_steps.sum() == pooled.acceptance_length_drafted
    assert pooled.acceptance_length_drafted == 1 + (4 + 4 + 5) / 9
    emitted = (measured.num_output_tokens - 1).sum()
    assert emitted / measured.num_decode_steps.sum() == pooled.acceptance_length
    assert measured.num_accepted.sum() / measured.num_proposed.sum() == pooled.draft_acceptance_rate
    assert measured.ttft_ms.mean() == pytest.approx(run.summary().latency.ttft_ms.mean)
    assert measured.acceptance_length.mean() == pytest.approx(run.summary().acceptance.macro.acceptance_length)


def test_parquet_has_the_steps_as_lists_of_integers(tmp_path: Path) -> None:
    table = pd.read_parquet(io.BytesIO(parquet_bytes(frame_of(tmp_path / "run", RECORDS))))
    assert [list(accepted) for accepted in table.step_num_accepted] == [
        [0, 3, 1, 0],
        [0, 3, 1, 0],
        [0, 2, 2],
        [0, 0, 1, 1, 3],
    ]
    histogram = [sum(list(accepted[1:]).count(j) for accepted in table.step_num_accepted[1:]) for j in range(4)]
    assert histogram == [2, 3, 2, 2]
    assert pool([], 3).acceptance_histogram == [0, 0, 0, 0]


def test_both_have_the_columns_of_load(tmp_path: Path) -> None:
    frame = frame_of(tmp_path / "run", RECORDS)
    assert list(rows_of(frame)[0]) == list(COLUMNS)
    assert list(pd.read_parquet(io.BytesIO(parquet_bytes(frame))).columns) == list(COLUMNS)


def test_csv_has_the_same_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_tables, "ROWS_AT_ONCE", 3)  # or no second part is made
    rows = rows_of(frame_of(tmp_path / "run", RECORDS))
    assert [row["num_accepted"] for row in rows] == ["4", "4", "4", "5"]
    assert [json.loads(row["step_num_tokens"]) for row in rows[1:3]] == [[1, 4, 2, 1], [1, 3, 3]]
    assert [float(row["ttft_ms"]) for row in rows] == [100.0] * 4
    assert {row["error"] for row in rows} == {""}


def test_what_is_unknown_is_empty_and_a_list_keeps_its_nulls(tmp_path: Path) -> None:
    chunks = reply(PROMPTS[0], [1]).steps
    unknown = tuple(type(step)(received_ns=step.received_ns, num_tokens=step.num_tokens) for step in chunks)
    frame = frame_of(tmp_path / "run", [reply(PROMPTS[0], (), steps=unknown, acceptance_source="stream")])
    (row,) = rows_of(frame)
    assert (row["num_accepted"], row["step_num_accepted"]) == ("", "[null, null]")
    (accepted,) = pd.read_parquet(io.BytesIO(parquet_bytes(frame)), dtype_backend="pyarrow").step_num_accepted
    assert list(accepted) == [None, None]


@pytest.mark.parametrize("text", [*HOSTILE, '=cmd|"/C calc"!A0', "+1+2", "@SUM(A1)", "-2+3", "\t=1", " =1"])
def test_hostile_text_is_inert_in_csv_and_whole_in_parquet(tmp_path: Path, text: str) -> None:
    frame = frame_of(tmp_path / "run", [reply(PROMPTS[0], [1], category=text)])
    (row,) = rows_of(frame)
    assert row["category"].isprintable()
    assert not row["category"].lstrip(" ").startswith(("=", "+", "-", "@"))
    (category,) = pd.read_parquet(io.BytesIO(parquet_bytes(frame))).category
    assert category == text.encode("utf-8", "backslashreplace").decode()


def test_no_request_is_a_header(tmp_path: Path) -> None:
    frame = frame_of(tmp_path / "run", [])
    assert b"".join(csv_chunks(frame)).decode().strip().split(",") == list(COLUMNS)
    assert pd.read_parquet(io.BytesIO(parquet_bytes(frame))).shape == (0, len(COLUMNS))
