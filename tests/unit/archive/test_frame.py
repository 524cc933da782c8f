import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest

from specdec_bench.archive import RequestWriter, RunDirectory, load
from specdec_bench.archive.frame import COLUMNS
from specdec_bench.errors import ArchiveError
from specdec_bench.records.request import AcceptanceCounters, RequestError, RequestRecord, Step
from tests.helpers.archive_samples import HOSTILE, make_manifest, make_request

NewRun = Callable[..., RunDirectory]


def write(run: RunDirectory, *records: RequestRecord) -> RunDirectory:
    with RequestWriter(run.requests_path) as writer:
        for record in records:
            writer.append(record)
    return run


def row(run: RunDirectory, record: RequestRecord) -> dict[str, Any]:
    write(run, record)
    frame = load(run.path)
    assert len(frame) == 1
    return {name: frame[name].iloc[0] for name in frame.columns}


def is_undefined(value: Any) -> bool:
    return value is pd.NA or (isinstance(value, float) and math.isnan(value))


def test_one_request_by_hand(new_run: NewRun) -> None:
    steps = [
        Step(received_ns=50_000_000, num_tokens=1, num_proposed=0, num_accepted=0),
        Step(received_ns=60_000_000, num_tokens=3, num_proposed=3, num_accepted=2),
        Step(received_ns=65_000_000, num_tokens=1, num_proposed=0, num_accepted=0),
        Step(received_ns=70_000_000, num_tokens=1, num_proposed=3, num_accepted=1),
    ]
    record = make_request(steps=tuple(steps), acceptance_source="engine_request", num_preemptions=2)
    values = row(new_run(), record)
    assert is_undefined(values.pop("error"))
    assert values == {
        "run_id": "run-1",
        "run_dir": ".",
        "status": "started",
        "engine": "synthetic",
        "model": "tiny",
        "dataset": "demo",
        "spec": "ngram",
        "draft_length": 3,
        "draft_lengths": pd.NA,
        "concurrency": 2,
        "load_axis": "concurrency",
        "load_value": 2.0,
        "temperature": 0.0,
        "seed": 7,
        "request_id": "r0",
        "prompt_id": "p0",
        "category": "writing",
        "turn": 0,
        "repeat": 0,
        "phase": "measure",
        "num_prompt_tokens": 4,
        "num_output_tokens": 6,
        "ttft_ms": 40.0,
        "e2e_ms": 60.0,
        "tpot_ms": 4.0,  # 20 ms for 5 tokens
        "queue_time_ms": 1.0,
        "ttft_from_schedule_ms": 41.0,
        "e2e_from_schedule_ms": 61.0,
        "acceptance_length": 5 / 3,
        "acceptance_source": "engine_request",
        "num_decode_steps": 3,
        "num_verify_steps": 2,
        "num_proposed": 6,
        "num_accepted": 3,
        "finish_reason": "length",
        "num_preemptions": 2,
        "prompt_token_ids": [1, 2, 3, 4],
        "output_token_ids": [5, 6, 7, 8, 9, 10],
        "step_received_ns": [50_000_000, 60_000_000, 65_000_000, 70_000_000],
        "step_num_tokens": [1, 3, 1, 1],
        "step_num_proposed": [0, 3, 0, 3],
        "step_num_accepted": [0, 2, 0, 1],
    }


ACCEPTANCE = ("acceptance_length", "num_decode_steps", "num_verify_steps", "num_proposed", "num_accepted")
COUNTERS = AcceptanceCounters(num_verify_steps=2, num_accepted=4, num_proposed=6, num_decode_steps=4)
MERGED = (Step(received_ns=50_000_000, num_tokens=1), Step(received_ns=70_000_000, num_tokens=5))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"steps": MERGED, "counters": COUNTERS}, (1.25, 4, 2, 6, 4), id="counters come first"),
        pytest.param(
            {"steps": MERGED, "counters": AcceptanceCounters(num_verify_steps=2, num_accepted=4)},
            (None, None, 2, None, 4),
            id="chunks are no steps",
        ),
        pytest.param({"steps": MERGED, "acceptance_source": "stream"}, (5.0, 1, None, None, None), id="stream"),
        pytest.param({"steps": MERGED, "acceptance_source": "engine_total"}, (None,) * 5, id="total"),
        pytest.param({"steps": MERGED, "acceptance_source": None}, (1.0, 5, 0, 0, 0), id="plain, merged chunks"),
        pytest.param(
            {"error": RequestError(kind="engine_error", message="m"), "counters": COUNTERS}, (None,) * 5, id="failed"
        ),
        pytest.param(
            {"steps": MERGED[:1], "output_token_ids": (5,), "acceptance_source": None},
            (None, 0, 0, 0, 0),
            id="one token",
        ),
        pytest.param({"steps": (), "output_token_ids": ()}, (None,) * 5, id="no token"),
        pytest.param(
            {
                "steps": (
                    Step(received_ns=1, num_tokens=1, num_accepted=0),
                    Step(received_ns=2, num_tokens=5, num_accepted=4),
                )
            },
            (5.0, 1, None, None, 4),
            id="padded proposals",
        ),
    ],
)
def test_acceptance(new_run: NewRun, changes: dict[str, Any], expected: tuple[float | None, ...]) -> None:
    values = row(new_run(), make_request(**({"acceptance_source": "engine_request"} | changes)))
    for name, value in zip(ACCEPTANCE, expected, strict=True):
        assert is_undefined(values[name]) if value is None else values[name] == value, name


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"sent_ns": None, "steps": (), "output_token_ids": ()}, (None, None, None), id="never sent"),
        pytest.param({"steps": (), "output_token_ids": ()}, (None, None, None), id="nothing came"),
        pytest.param(
            {"error": RequestError(kind="engine_error", message="died")}, (40.0, None, None), id="failed half-way"
        ),
        pytest.param({"steps": MERGED[:1], "output_token_ids": (5,)}, (40.0, 40.0, None), id="one chunk"),
        pytest.param(
            {"steps": (Step(received_ns=50_000_000, num_tokens=4), Step(received_ns=70_000_000, num_tokens=2))},
            (40.0, 60.0, 10.0),
            id="a first chunk of several tokens",
        ),
        pytest.param(
            {
                "steps": (
                    Step(received_ns=20_000_000, num_tokens=0),
                    *MERGED,
                    Step(received_ns=90_000_000, num_tokens=0),
                )
            },
            (40.0, 60.0, 4.0),
            id="chunks without tokens",
        ),
    ],
)
def test_latency(new_run: NewRun, changes: dict[str, Any], expected: tuple[float | None, ...]) -> None:
    values = row(new_run(), make_request(**changes))
    for name, value in zip(("ttft_ms", "e2e_ms", "tpot_ms"), expected, strict=True):
        assert is_undefined(values[name]) if value is None else values[name] == value, name


def test_dtypes_hold_with_and_without_rows(new_run: NewRun) -> None:
    empty = load(new_run("empty").path)
    full = load(write(new_run("full"), make_request()).path)
    assert len(empty) == 0
    for frame in (empty, full):
        assert list(frame.columns) == list(COLUMNS)
        assert str(frame["draft_length"].dtype) == "Int64"
        assert str(frame["temperature"].dtype) == "Float64"
        assert str(frame["ttft_ms"].dtype) == "float64"
        assert str(frame["model"].dtype).startswith("string")
        assert frame["step_received_ns"].dtype == object


def test_missing_settings_are_na(new_run: NewRun) -> None:
    config = {"engine": {"name": "synthetic"}, "spec": {"name": "none"}, "load": None}
    run = new_run(config=config)
    values = row(run, make_request(acceptance_source=None))
    assert (values["engine"], values["spec"]) == ("synthetic", "none")
    for name in ("model", "dataset", "draft_length", "concurrency", "temperature", "seed"):
        assert values[name] is pd.NA, name


def test_integers_beyond_a_float_stay_exact(new_run: NewRun) -> None:
    run = new_run(config={"seed": 2**63 - 1})
    received = 2**62 + 1
    values = row(run, make_request(steps=(Step(received_ns=received, num_tokens=6),), sent_ns=received - 1))
    assert values["seed"] == 2**63 - 1
    assert values["step_received_ns"] == [received]
    assert values["ttft_ms"] == 1e-6


def test_any_text_is_loaded(new_run: NewRun) -> None:
    error = RequestError(kind="engine_error", message="\ud800\u2028")
    run = write(new_run(), *(make_request(i, prompt_id=text, error=error) for i, text in enumerate(HOSTILE)))
    frame = load(run.path)
    assert list(frame["prompt_id"]) == list(HOSTILE)
    assert set(frame["error"]) == {"engine_error: \ud800\u2028"}


def test_every_run_below_a_folder_but_no_attempt(new_run: NewRun, tmp_path: Path) -> None:
    for name in ("b/1", "a/deep/er", "b/attempts/0", "b/1/attempts/0", ".hidden/run"):
        write(new_run(name, run_id=name), make_request(0, phase="warmup"), make_request(1))
    (tmp_path / "c").mkdir()
    frame = load(tmp_path)
    assert list(frame["run_dir"]) == ["a/deep/er", "a/deep/er", "b/1", "b/1"]
    assert list(frame["run_id"]) == ["a/deep/er", "a/deep/er", "b/1", "b/1"]
    assert list(frame["phase"]) == ["warmup", "measure"] * 2
    assert list(frame.index) == [0, 1, 2, 3]
    assert list(load(str(tmp_path / "b" / "attempts"))["run_dir"]) == ["0", "0"]


def test_torn_lines_are_counted_and_logged(new_run: NewRun, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a", "b"):
        path = write(new_run(name), make_request(0), make_request(1)).requests_path
        path.write_bytes(path.read_bytes()[:-5])
    frame = load(tmp_path)
    assert list(frame["request_id"]) == ["r0", "r0"]
    assert frame.attrs["torn_lines"] == 2
    assert "left out 2 requests" in caplog.text


def test_what_cannot_be_read_is_no_silent_gap(new_run: NewRun, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="no run directory"):
        load(tmp_path)
    with pytest.raises(ArchiveError, match="no run directory"):
        load(tmp_path / "missing")
    write(new_run("good"), make_request())
    bad = new_run("bad")
    bad.requests_path.write_bytes(b"{}\n")
    with pytest.raises(ArchiveError, match=r"requests\.jsonl:1"):
        load(tmp_path)
    bad.manifest_path.write_bytes(b"")
    with pytest.raises(ArchiveError, match=r"manifest\.json"):
        load(tmp_path)


def test_status_is_the_runs(new_run: NewRun) -> None:
    run = write(new_run(), make_request())
    run.write_manifest(msgspec.structs.replace(make_manifest(), status="failed", error="died"))
    assert list(load(run.path)["status"]) == ["failed"]
