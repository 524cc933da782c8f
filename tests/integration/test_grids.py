"""Sweeps as a whole: which cells there are, what they are compared with, and going on after a crash."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest

from specdec_bench import archive
from tests.helpers.command_line import CommandLine, Running, children, command, measured, read_json, wait_until

GRID = ("sampling.max_new_tokens=9", "engine.acceptance_rates=[1.0]", "hydra.sweep.dir=sweep")


def table(sweep: Path) -> pd.DataFrame:
    frame = pd.read_parquet(sweep / "sweep.parquet")
    assert list(frame["job"]) == list(pd.read_csv(sweep / "sweep.csv")["job"])
    return frame


def test_a_plain_run_appears_once_whatever_the_draft_lengths(command_line: CommandLine) -> None:
    grid = ("-m", "spec=none,ngram", "spec.draft_length=1,3", "load.concurrency=1,4", *GRID)
    outcome = command_line.measure(*grid, "--dry-run")
    assert (outcome.status, outcome.stderr) == (0, "")
    assert "6 cells, 0 done; 6 to run with 3 engine starts" in outcome.stdout
    assert list(command_line.folder.iterdir()) == []


CHOOSE = "defaults: [{override /spec: SPEC}]\n"
SWEEP = "hydra: {mode: MULTIRUN, sweeper: {params: {spec: 'none,ngram'}}}\n"


@pytest.mark.parametrize("chosen", ["spec=none,ngram", "experiment=a,b", "experiment=c"])
def test_a_field_that_only_a_swept_choice_has_is_set_in_its_cells(command_line: CommandLine, chosen: str) -> None:
    """The method that the experiment has without them, a draft model, lacks the field."""
    (command_line.folder / "experiment").mkdir()
    for name, text in (("a", CHOOSE.replace("SPEC", "none")), ("b", CHOOSE.replace("SPEC", "ngram")), ("c", SWEEP)):
        (command_line.folder / "experiment" / f"{name}.yaml").write_text(f"# @package _global_\n{text}")
    grid = (*GRID, chosen, "spec.ngram_max=5", "--config-dir=.")
    outcome = command_line("-m", "engine=synthetic", "dataset.num_prompts=2", *grid)
    assert (outcome.status, outcome.stderr) == (0, "")
    manifests = [read_json(command_line.folder / "sweep" / str(job) / "manifest.json") for job in range(2)]
    assert [m["config"]["spec"].get("ngram_max") for m in manifests] == [None, 5]


def test_cells_run_in_the_order_that_starts_fewest_engines(command_line: CommandLine) -> None:
    # The user names the concurrency first, so that draft lengths alternate from job to job.
    outcome = command_line.measure("-m", "load.concurrency=1,4", "spec.draft_length=1,3", *GRID)
    assert (outcome.status, outcome.stderr) == (0, "")
    manifests = [read_json(command_line.folder / "sweep" / str(job) / "manifest.json") for job in range(4)]
    asked = [(m["config"]["load"]["concurrency"], m["config"]["spec"]["draft_length"]) for m in manifests]
    assert asked == [(1, 1), (1, 3), (4, 1), (4, 3)]
    assert sum(not m["engine"]["reused"] for m in manifests) == 2


def test_equal_cells_run_once(command_line: CommandLine) -> None:
    assert command_line.measure("-m", "spec.draft_length=2,2", *GRID).status == 0
    assert list(table(command_line.folder / "sweep")["job"]) == [0]


def test_every_speculative_cell_is_compared_with_its_plain_one(command_line: CommandLine) -> None:
    outcome = command_line.measure("-m", "spec.draft_length=1,3", "baseline=auto", "control=true", *GRID)
    assert (outcome.status, outcome.stderr) == (0, "")
    sweep = command_line.folder / "sweep"
    rows = table(sweep).set_index("job")
    assert list(rows["spec"]) == ["ngram", "ngram", "none", "none"]
    assert list(rows["replicate"]) == [0, 0, 0, 1]
    assert list(rows["lossless"][[0, 1, 3]]) == ["identical"] * 3
    assert list(rows["num_compared"][[0, 1]]) == list(rows["num_identical"][[0, 1]])
    assert rows["acceptance_length"][0] == 2  # without rejection a step emits K + 1 tokens
    assert rows["speedup_tpot_low"][0] <= rows["speedup_tpot"][0] <= rows["speedup_tpot_high"][0]
    for name in (
        "acceptance_length",
        "acceptance_length_drafted",
        "ttft_ms_p50",
        "tpot_ms_mean",
        "output_tps_per_user",
    ):
        assert (rows[f"{name}_low"][[0, 1]] <= rows[name][[0, 1]]).all()
        assert (rows[name][[0, 1]] <= rows[f"{name}_high"][[0, 1]]).all()
    assert rows["output_tps_low"].isna().all()  # of a single repeat
    assert rows["ideal_speedup_gap"][1] == pytest.approx(rows["ideal_speedup"][1] - rows["speedup_tpot"][1])
    # What was overridden, each in a column of its own.
    assert list(rows["sampling.max_new_tokens"]) == [9] * 4
    assert list(rows["engine.acceptance_rates"]) == ["[1.0]"] * 4
    assert list(rows["spec.draft_length"][[0, 1]]) == [1, 3]
    assert rows["spec.draft_length"][[2, 3]].isna().all()
    assert "1 in flight: which is fastest is not judged: single runs" in outcome.stdout
    assert "is the fastest" not in outcome.stdout
    assert "Intervals are of single runs" in outcome.stdout
    assert not (sweep / "replicates.csv").exists()
    assert (sweep / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_several_runs_of_a_cell_are_compared_together(command_line: CommandLine) -> None:
    grid = ("-m", "spec=ngram", "replicate=0,1,2", "baseline=auto", "order=replicates", *GRID)
    planned = command_line.measure(*grid, "--dry-run")
    # The second replicate is run backwards: plain decoding goes on where it was, and then drafting.
    assert "6 cells, 0 done; 6 to run with 4 engine starts" in planned.stdout
    outcome = command_line.measure(*grid)
    assert (outcome.status, outcome.stderr) == (0, "")
    sweep = command_line.folder / "sweep"
    manifests = {job: read_json(sweep / str(job) / "manifest.json") for job in range(6)}
    began = sorted(manifests, key=lambda job: manifests[job]["created_utc"])
    assert began == [0, 3, 4, 1, 2, 5]
    assert sum(not manifest["engine"]["reused"] for manifest in manifests.values()) == 4
    rows = table(sweep).set_index("job")
    assert list(rows["replicate"]) == [0, 1, 2, 0, 1, 2]
    assert [Path(rows["baseline"][job]).name for job in range(3)] == ["3", "4", "5"]
    plain, together = pd.read_parquet(sweep / "replicates.parquet").to_dict("records")
    assert (plain["jobs"], plain["spec"], plain["acceptance_length"]) == ("3 4 5", "none", 1)
    for name in ("output_tps", "tpot_ms_mean", "output_tps_per_user"):
        assert plain[f"{name}_low"] < plain[name] < plain[f"{name}_high"]
    assert (together["jobs"], together["num_runs"]) == ("0 1 2", 3)
    assert together["output_tps"] == pytest.approx(rows["output_tps"][:3].mean())
    assert together["acceptance_length"] == rows["acceptance_length"][0]
    assert together["speedup_tpot_low"] < together["speedup_tpot"] < together["speedup_tpot_high"]
    assert min(rows["speedup_tpot"][:3]) < together["speedup_tpot"] < max(rows["speedup_tpot"][:3])
    assert "several runs of a cell together" in outcome.stdout
    # Three drafts of three accepted are four tokens in the time of one; but a busy machine may make it a tie.
    (advice,) = read_json(sweep / "comparison.json")["recommendations"]
    assert (advice["not_judged"], advice["num_runs"], list(advice["p_values"])) == (None, 3, [advice["runner_up"]])
    assert "1 in flight: " in outcome.stdout


def own_experiments(folder: Path) -> Path:
    """Writes two experiments of the user's own, which differ in how often the prompts are sent."""
    own = folder / "own"
    (own / "experiment").mkdir(parents=True)
    for repeats in (1, 2):
        (own / "experiment" / f"sent_{repeats}.yaml").write_text(
            f"# @package _global_\nload:\n  repeats: {repeats}\n  concurrency: {repeats}\n"
        )
    return own


def test_experiments_of_a_folder_of_ones_own(command_line: CommandLine) -> None:
    own = own_experiments(command_line.folder)
    outcome = command_line.measure("--config-dir=own", "experiment=sent_2", *GRID[:2], "hydra.run.dir=run")
    assert (outcome.status, outcome.stderr) == (0, "")
    assert read_json(command_line.folder / "run" / "manifest.json")["config"]["load"]["repeats"] == 2
    assert len(measured(command_line.folder / "run")) == 6
    # A flag may stand between overrides, and a sweep that is gone on with knows the folder.
    grid = ("experiment=sent_1,sent_2", "--config-dir", "own", *GRID, "-m")
    assert "2 cells, 0 done" in command_line.measure(*grid, "--dry-run").stdout
    assert command_line.measure(*grid).status == 0
    rows = table(command_line.folder / "sweep")
    assert list(rows["experiment"]) == ["sent_1", "sent_2"]
    assert list(rows["concurrency"]) == [1, 2]
    assert "2 cells, 2 done" in command_line("resume=sweep", "--dry-run").stdout
    shown = command_line("--config-dir", own, *command_line.experiment, "experiment=sent_2", "--cfg", "job")
    assert "repeats: 2" in shown.stdout


def test_cells_that_only_other_fields_tell_apart_are_told_apart(command_line: CommandLine) -> None:
    cells = ("spec=none,ngram", "spec.ngram_max=2,3", "load.repeats=1,2", "load.concurrency=1")
    outcome = command_line.measure("-m", *cells, *GRID)
    assert (outcome.status, outcome.stderr) == (0, "")
    lines = [line.split() for line in outcome.stdout.partition(" job ")[2].splitlines()]
    shown = [line[:2] for line in lines if line and line[0] in {"0", "1", "2", "3", "4", "5"}]
    assert shown[:6] == [["0", "1"], ["1", "2"], ["2", "1"], ["3", "2"], ["4", "1"], ["5", "2"]]
    assert "ngram K=3 ngram_max=2" in outcome.stdout
    advice = [line for line in outcome.stdout.splitlines() if " in flight, load.repeats=" in line]
    assert [line.partition(":")[0] for line in advice] == ["1 in flight, load.repeats=1", "1 in flight, load.repeats=2"]
    first, second = read_json(command_line.folder / "sweep" / "comparison.json")["recommendations"]
    assert (first["load.repeats"], second["load.repeats"]) == (1, 2)
    assert first["not_judged"] == second["not_judged"] == "single runs"


def test_the_tables_of_a_sweep_can_be_computed_again(command_line: CommandLine) -> None:
    assert command_line.measure("spec=none", *GRID[:2], "hydra.run.dir=plain").status == 0
    assert command_line.measure("-m", "spec.draft_length=1,3", "baseline=plain", *GRID).status == 0
    sweep = command_line.folder / "sweep"
    before = {name: (sweep / name).read_bytes() for name in ("sweep.csv", "comparison.json")}
    for name in before:
        (sweep / name).unlink()
    outcome = command_line("summarize", "sweep")
    assert (outcome.status, outcome.stderr) == (0, "")
    assert {name: (sweep / name).read_bytes() for name in before} == before
    (command_line.folder / "plain").rename(command_line.folder / "elsewhere")
    assert "baseline=plain: holds no finished plain run" in command_line("summarize", "sweep").error
    assert command_line("summarize", "sweep", "--baseline=elsewhere").status == 0
    assert "elsewhere is not a sweep's folder" in command_line("summarize", "elsewhere", "--baseline=elsewhere").error


def test_an_archived_plain_run_serves_as_baseline_if_it_is_the_same(command_line: CommandLine) -> None:
    assert command_line.measure("spec=none", *GRID[:2], "hydra.run.dir=plain").status == 0
    assert command_line.measure("-m", "spec.draft_length=1,3", "baseline=plain", *GRID).status == 0
    assert table(command_line.folder / "sweep")["speedup_tpot"].notna().all()
    other = ("-m", "spec.draft_length=1,3", "baseline=plain", *GRID[1:2], "sampling.max_new_tokens=8")
    outcome = command_line.measure(*other, "hydra.sweep.dir=other")
    assert outcome.status == 2
    assert "sampling.max_new_tokens (9 there, 8 here)" in outcome.error
    assert not (command_line.folder / "other").exists()


@pytest.mark.parametrize("victim", ["parent", "child", "both"])
def test_a_killed_sweep_goes_on_where_it_was(command_line: CommandLine, victim: str) -> None:
    sweep = command_line.folder / "sweep"
    slow = ("-m", "load.concurrency=1,2,3", "sampling.max_new_tokens=9", "engine.step_time_ms=40", "load.repeats=4")
    arguments = [*command_line.experiment, *slow, "hydra.sweep.dir=sweep"]
    with command_line.started(*arguments) as running:
        wait_until(lambda: (sweep / "0" / "summary.json").exists() and len(measured(sweep / "1")) > 2)
        child = running.measuring_process()
        finished = (sweep / "0" / "requests.jsonl").stat()
        if victim in ("parent", "both"):
            os.kill(running.process.pid, signal.SIGKILL)
        if victim in ("child", "both"):
            os.kill(child, signal.SIGKILL)
        running.process.wait()
    # A worker whose parent died ends itself; then nobody holds the folder.
    time.sleep(0.5)
    outcome = command_line("resume=sweep")
    assert (outcome.status, outcome.stderr) == (0, "")
    assert (sweep / "0" / "requests.jsonl").stat().st_mtime_ns == finished.st_mtime_ns
    assert {path.name for path in (sweep / "attempts").iterdir()} == {"1-1"}
    rows = table(sweep)
    assert list(rows["status"]) == ["finished"] * 3
    ids = [sorted(r["request_id"] for r in measured(sweep / str(job))) for job in range(3)]
    assert ids[0] == ids[1] == ids[2]
    again = command_line("resume=sweep", "--dry-run")
    assert "3 cells, 3 done; 0 to run with 0 engine starts" in again.stdout


KILLED = ("load.concurrency=1,2", "spec.draft_length=1,2,3", "sampling.max_new_tokens=9", "load.repeats=5")
"""Six cells of about a quarter of a second."""


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, environment: Mapping[str, str], prompts: Path
) -> dict[str, tuple[str, list[str]]]:
    """What every cell comes to where nobody kills the sweep."""
    command_line = CommandLine(tmp_path_factory.mktemp("undisturbed"), environment, prompts)
    done = command_line.measure("-m", *KILLED, "engine.step_time_ms=10", "hydra.sweep.dir=sweep")
    assert done.status == 0, done.stderr
    return outcome(command_line.folder / "sweep")


@pytest.mark.parametrize("wanted_kills", [3, pytest.param(10, marks=pytest.mark.soak)])
@pytest.mark.parametrize("victim", ["parent", "child", "both"])
def test_kills_at_random_moments_lose_nothing_that_was_finished(
    command_line: CommandLine, undisturbed: dict[str, tuple[str, list[str]]], victim: str, wanted_kills: int
) -> None:
    moments = random.Random(victim)
    grid = ["-m", *command_line.experiment, *KILLED, "engine.step_time_ms=10"]
    num_kills = num_sweeps = 0
    # A fast machine finishes a sweep in fewer kills: then the next one is killed too.
    while num_kills < wanted_kills:
        num_sweeps += 1
        sweep = command_line.folder / f"sweep{num_sweeps}"
        finished: dict[Path, bytes] = {}
        arguments = [*grid, f"hydra.sweep.dir={sweep.name}"]
        while num_kills < wanted_kills and len(finished) < 6:
            with command_line.started(*arguments) as running:
                while running.process.poll() is None and num_kills < wanted_kills:
                    time.sleep(moments.uniform(0.2, 2.5))
                    num_kills += kill(running, victim)
                running.process.wait()
            if (sweep / "sweep.json").exists():
                arguments = [f"resume={sweep.name}"]
            if any(sweep.glob("*/manifest.json")):
                archive.load(sweep)  # no half-written line breaks the project's own reader
            for path, content in finished.items():
                assert path.read_bytes() == content
            finished |= {path: path.read_bytes() for path in requests_of_finished(sweep)}
        assert command_line(*arguments).status == 0
        assert outcome(sweep) == undisturbed


def kill(running: Running, victim: str) -> bool:
    """Kills what is there of the victims at this moment; says whether anything was."""
    workers = [pid for pid in children(running.process.pid) if b"specdec_bench.runner.worker" in command(pid)]
    parent = [running.process.pid] if running.process.poll() is None else []
    pids = {"parent": parent, "child": workers, "both": [*parent, *workers]}[victim]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return bool(pids)


def requests_of_finished(sweep: Path) -> list[Path]:
    manifests = [path for path in sweep.glob("*/manifest.json") if read_json(path)["status"] == "finished"]
    return [path.parent / "requests.jsonl" for path in manifests]


def outcome(sweep: Path) -> dict[str, tuple[str, list[str]]]:
    """Returns status and finished requests of every cell."""
    manifests = {path.parent: read_json(path) for path in sweep.glob("*/manifest.json")}
    return {
        manifest["cell_id"]: (manifest["status"], sorted(r["request_id"] for r in measured(run)))
        for run, manifest in manifests.items()
    }


def test_a_sweep_is_gone_on_with_only_as_it_began(command_line: CommandLine) -> None:
    assert command_line.measure("-m", "spec.draft_length=1,3", *GRID).status == 0
    twice = command_line.measure("-m", "spec.draft_length=1,3", *GRID)
    assert twice.status == 2
    assert "already holds a sweep; pass resume=sweep" in twice.error
    other = command_line.measure("-m", "spec.draft_length=1,2", *GRID[:2], "resume=sweep")
    assert other.status == 2
    assert "job 1 is" in other.error
    missing = command_line("resume=nowhere")
    assert missing.status == 2
    assert "resume=nowhere: holds no sweep" in missing.error
