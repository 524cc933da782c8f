"""Runs and sweeps under open loads: what is archived, what the tables and plots are drawn against."""

from pathlib import Path

import pandas as pd
import pytest

from tests.helpers.command_line import CommandLine, measured, read_json

ARRIVE = ("load=poisson", "sampling.max_new_tokens=9")


def test_a_run_is_timed_from_when_its_requests_were_due(command_line: CommandLine) -> None:
    outcome = command_line.measure(*ARRIVE, "load.rate=50", "load.think_time_s=0.02", "hydra.run.dir=run")
    assert (outcome.status, outcome.stderr) == (0, "")
    for words in ("50 conversations/s", "sent late by", "TTFT since due", "e2e since due"):
        assert words in outcome.stdout
    run = command_line.folder / "run"
    records = {(record["prompt_id"], record["turn"]): record for record in measured(run)}
    assert len(records) == 3
    assert records["two", 1]["scheduled_ns"] == records["two", 0]["steps"][-1]["received_ns"] + 20_000_000
    late_ms = [(record["sent_ns"] - record["scheduled_ns"]) / 1e6 for record in records.values()]
    assert min(late_ms) >= 0
    summary = read_json(run / "summary.json")
    latency = summary["latency"]
    assert latency["queue_time_ms"]["max"] == max(late_ms)
    for name in ("ttft", "e2e"):
        waited = latency[f"{name}_from_schedule_ms"]["mean"] - latency[f"{name}_ms"]["mean"]
        assert abs(waited - sum(late_ms) / 3) < 1e-6
    assert summary["throughput"]["output_tps_steady"] is None
    assert read_json(run / "manifest.json")["load"] == {
        "axis": "rate",
        "value": 50.0,
        "title": "conversations per second",
        "unit": "conversations/s",
        "max_in_flight": None,
    }


def due_s(run: Path) -> dict[str, float]:
    """Returns by prompt how long after the first arrival its first turn was due."""
    due = {record["prompt_id"]: record["scheduled_ns"] for record in measured(run) if record["turn"] == 0}
    return {prompt: round((ns - min(due.values())) / 1e9, 6) for prompt, ns in due.items()}


def test_a_sweep_over_the_rate_is_drawn_against_it(command_line: CommandLine) -> None:
    outcome = command_line.measure("-m", *ARRIVE, "load.rate=20,50", "baseline=auto", "hydra.sweep.dir=sweep")
    assert (outcome.status, outcome.stderr) == (0, "")
    assert "conversations/s   acceptance length" in outcome.stdout
    assert "20 conversations/s: which is fastest is not judged" in outcome.stdout
    assert "load.rate" not in outcome.stdout, "the rate is the axis, not a condition"
    sweep = command_line.folder / "sweep"
    table = pd.read_parquet(sweep / "sweep.parquet")
    assert list(table["spec"]) == ["ngram", "ngram", "none", "none"]
    assert list(table["load_axis"]) == ["rate"] * 4
    assert list(table["load_value"]) == [20, 50, 20, 50]
    assert table["concurrency"].isna().all()
    assert list(table["share_identical"].dropna()) == [1, 1]
    assert (sweep / "sweep.png").is_file()
    # The same arrivals for a method and its baseline, and the same ones at another rate, closer together.
    assert due_s(sweep / "0") == due_s(sweep / "2")
    gaps = [due_s(sweep / cell)["two"] * rate for cell, rate in (("0", 20), ("1", 50))]
    assert gaps == pytest.approx([1.418621] * 2, abs=1e-4)


def test_loads_of_different_kinds_stand_in_one_table(command_line: CommandLine) -> None:
    outcome = command_line.measure(
        "-m", "load=closed,constant", "load.concurrency=1,2", "load.rate=50,100", "hydra.sweep.dir=sweep"
    )
    assert (outcome.status, outcome.stderr) == (0, "")
    sweep = command_line.folder / "sweep"
    table = pd.read_parquet(sweep / "sweep.parquet")
    assert list(zip(table["load_axis"], table["load_value"], strict=True)) == [
        ("concurrency", 1),
        ("concurrency", 2),
        ("rate", 50),
        ("rate", 100),
    ]
    for words in ("1 in flight", "2 in flight", "50 conversations/s", "100 conversations/s"):
        assert words in outcome.stdout
    assert {path.name for path in sweep.glob("*.png")} == {"sweep.png", "sweep-2.png"}


def test_waiting_for_an_arrival_is_no_stall(command_line: CommandLine) -> None:
    """A second passes between arrivals, and an engine that is silent for half of one with requests has stalled."""
    outcome = command_line.measure(
        "load=constant", "load.rate=1", "load.num_warmup=0", "engine.stall_timeout_s=0.5", "hydra.run.dir=run"
    )
    assert (outcome.status, outcome.stderr) == (0, "")
    assert read_json(command_line.folder / "run" / "manifest.json")["status"] == "finished"
