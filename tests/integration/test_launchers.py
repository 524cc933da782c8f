"""Sweeps on Hydra's launchers and sweepers, each run for real: their cells run in other processes, or are searched."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from tests.helpers.command_line import CommandLine, Outcome, command, measured, read_json, wait_until

TOKEN = "hf_abcdefghijklmnop"
GRID = (
    "-m",
    "spec.draft_length=3",
    "engine.fail_every=null,1",
    "baseline=auto",
    "sampling.max_new_tokens=9",
    "engine.acceptance_rates=[1.0]",
    f"+model.chat_template_kwargs.token={TOKEN}",
    "hydra.sweep.dir=sweep",
)
"""Two cells and their plain ones; in every second one all requests fail."""
FAILURE = "no request finished: 2 failed, the first because: synthetic failure: engine.fail_every=1"
FILES = {
    "manifest.json",
    "config.yaml",
    "prompts.jsonl",
    "requests.jsonl",
    "responses.jsonl",
    "summary.json",
    "run.log",
}


@pytest.fixture
def slurm() -> None:
    """Slurm, which CI has and a developer's machine may lack."""
    sinfo = shutil.which("sinfo")
    answers = sinfo is not None and subprocess.run([sinfo], capture_output=True, timeout=30).returncode == 0
    if not answers:
        assert not os.environ.get("REQUIRE_SLURM"), "Slurm does not answer; tests/slurm/start.sh starts it"
        pytest.skip("no Slurm here; as root, tests/slurm/start.sh installs and starts it")


@pytest.fixture(scope="module")
def run_here(tmp_path_factory: pytest.TempPathFactory, environment: Mapping[str, str], prompts: Path) -> Path:
    """The same sweep, its cells one after another in one process."""
    folder = tmp_path_factory.mktemp("here")
    command_line = CommandLine(folder, environment, prompts)
    assert command_line.measure(*GRID).status == 1
    return folder / "sweep"


def table(sweep: Path) -> pd.DataFrame:
    return pd.read_parquet(sweep / "sweep.parquet").set_index("job")


def manifests(sweep: Path, numbers: Sequence[int]) -> list[dict[str, Any]]:
    return [read_json(sweep / str(number) / "manifest.json") for number in numbers]


def check_against(run_here: Path, outcome: Outcome, sweep: Path) -> None:
    assert outcome.status == 1, outcome.stderr
    assert outcome.errors == [f"error: job 1: {FAILURE}", f"error: job 3: {FAILURE}"]
    rows = table(sweep)
    assert list(rows["status"]) == ["finished", "failed", "finished", "failed"]
    assert list(rows["spec"]) == ["ngram", "ngram", "none", "none"]
    # 8 tokens after the prefill's: in 2 steps of 3 drafts and the target's own token.
    assert rows["acceptance_length"][0] == 4
    assert rows["lossless"][0] == "identical"
    assert rows["baseline"][0] == str(sweep / "2")
    assert [str(path) for path in rows["path"]] == [str(sweep / str(number)) for number in range(4)]
    there = manifests(sweep, range(4))
    # As if they had run here, but for the engine that each started. (Launchers set numbers of threads, which the
    # environment tells.)
    for name in ("cell_id", "baseline_id", "config", "overrides"):
        assert [m[name] for m in there] == [m[name] for m in manifests(run_here, range(4))], name
    assert [m["engine"]["reused"] for m in there] == [False] * 4
    assert there[0]["command"][0].endswith("run.py")
    for number in (0, 2):
        assert {path.name for path in (sweep / str(number)).iterdir()} >= FILES | {".hydra"}
        outputs = [[r["output_token_ids"] for r in measured(path / str(number))] for path in (sweep, run_here)]
        assert outputs[0] == outputs[1]
    assert not [path for path in sweep.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]


@pytest.mark.parametrize("launcher", ["joblib_workers", "local_jobs", "ray_tasks"])
def test_cells_in_other_processes_are_those_that_run_here(
    command_line: CommandLine, run_here: Path, launcher: str
) -> None:
    outcome = command_line.measure(*GRID, f"hydra/launcher={launcher}")
    check_against(run_here, outcome, command_line.folder / "sweep")


def test_the_plan_says_that_every_job_starts_an_engine(command_line: CommandLine) -> None:
    outcome = command_line.measure(*GRID, "hydra/launcher=joblib_workers", "--dry-run")
    assert "4 to run with 4 engine starts (under this launcher every job starts its own)" in outcome.stdout
    assert not list(command_line.folder.iterdir())


@pytest.mark.usefixtures("slurm")
def test_slurm_runs_cells_as_jobs(command_line: CommandLine, run_here: Path) -> None:
    outcome = command_line.measure(*GRID, "hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1")
    check_against(run_here, outcome, command_line.folder / "sweep")


@pytest.mark.usefixtures("slurm")
def test_jobs_that_slurm_kills_are_shown_and_done_again(command_line: CommandLine, tmp_path: Path) -> None:
    sweep, name = command_line.folder / "sweep", tmp_path.parent.name + tmp_path.name
    steps = "engine.step_time_ms=1,250,251"  # 9 tokens of the last two take 2 seconds a request
    arguments = ["-m", *command_line.experiment, steps, "spec=none", "sampling.max_new_tokens=9"]
    launcher = ["hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", f"hydra.launcher.name={name}"]
    with command_line.started(*arguments, *launcher, "hydra.sweep.dir=sweep") as running:
        wait_until((sweep / "1" / "requests.jsonl").is_file)
        queue = subprocess.check_output(["squeue", f"--name={name}", "--array", "--noheader", "--format=%i"], text=True)
        (cancelled,) = (job for job in queue.split() if job.endswith("_1"))
        subprocess.run(["scancel", cancelled], check=True)
        wait_until((sweep / "2" / "requests.jsonl").is_file)
        os.kill(process_of_job(name, 2), signal.SIGKILL)  # as when memory is short
        outcome = running.end()
    assert outcome.status == 130
    assert len(outcome.errors) == 2
    assert outcome.errors[0].startswith("error: job 1: interrupted; what was measured is in ")
    assert outcome.errors[1].startswith("error: job 2: its process ended without a result; see sweep/.submitit/")
    rows = table(sweep)
    assert list(rows["status"]) == ["finished", "interrupted", "interrupted"]
    assert list(rows["error"][1:]) == ["stopped by the user", "its process ended without saying how"]

    resumed = command_line("resume=sweep")
    assert (resumed.status, resumed.errors) == (0, [])
    assert list(table(sweep)["status"]) == ["finished"] * 3
    assert sorted(path.name for path in (sweep / "attempts").iterdir()) == ["1-1", "2-1"]
    assert (sweep / "2" / ".hydra" / "hydra.yaml").read_text().count("SlurmLauncher") == 1


@pytest.mark.parametrize(("launcher", "number"), [("joblib_workers", signal.SIGTERM), ("local_jobs", signal.SIGHUP)])
def test_a_sweep_that_is_stopped_stops_its_jobs(command_line: CommandLine, launcher: str, number: int) -> None:
    sweep = command_line.folder / "sweep"
    endless = ["spec.draft_length=1,2", "sampling.max_new_tokens=4", "load.repeats=1000000"]
    arguments = ["-m", *command_line.experiment, *endless, f"hydra/launcher={launcher}", "hydra.sweep.dir=sweep"]
    with command_line.started(*arguments) as running:
        wait_until(lambda: len(measured(sweep / "0")) >= 5)
        running.process.send_signal(number)
        outcome = running.end()
    assert outcome.status == 130
    last = outcome.stderr.splitlines()[-1]
    assert last == "error: interrupted; resume=sweep runs what is not finished"
    statuses = [read_json(path)["status"] for path in sweep.glob("*/manifest.json")]
    assert set(statuses) == {"interrupted"}
    wait_until(lambda: not [path for path in Path("/proc").glob("[0-9]*") if str(sweep) in open_files(path)])


def open_files(process: Path) -> str:
    """Returns the files that a process has open; nothing of one that is gone."""
    with contextlib.suppress(OSError):
        return " ".join(str(path.readlink()) for path in (process / "fd").iterdir())
    return ""


def process_of_job(name: str, number: int) -> int:
    """Returns the pid of the Python process of a job in Slurm's array of that name."""
    wanted = {f"SLURM_JOB_NAME={name}".encode(), f"SLURM_ARRAY_TASK_ID={number}".encode()}
    (pid,) = (
        int(process.name)
        for process in Path("/proc").glob("[0-9]*")
        if b"submitit.core._submit\0" in command(int(process.name))
        and not command(int(process.name)).startswith((b"srun", b"/bin/bash"))
        and wanted <= set((process / "environ").read_bytes().split(b"\0"))
    )
    return pid


SEARCH = ("-m", "hydra/sweeper=optuna_tpe", "hydra.sweep.dir=sweep", "engine.acceptance_rates=[1.0]")
LONGEST = ("objective=acceptance_length", "hydra.sweeper.direction=maximize", "sampling.max_new_tokens=9")


def test_optuna_finds_the_draft_length_that_accepts_most(command_line: CommandLine) -> None:
    outcome = command_line.measure(*SEARCH, *LONGEST, "spec.draft_length=range(1,3)", "hydra.sweeper.n_trials=4")
    assert (outcome.status, outcome.errors) == (0, [])
    sweep = command_line.folder / "sweep"
    rows = table(sweep)
    assert len(rows) == 4
    # 8 tokens after the prefill's, all drafts accepted: 4, 3 or 2 steps.
    by_draft_length = {1: 2.0, 2: 8 / 3, 3: 4.0}
    assert list(rows["acceptance_length"]) == [by_draft_length[k] for k in rows["draft_length"]]
    assert rows["draft_length"].nunique() > 1
    best = yaml.safe_load((sweep / "optimization_results.yaml").read_text())
    assert best == {"name": "optuna", "best_params": {"spec.draft_length": 3}, "best_value": 4.0}
    assert "best acceptance_length of 4 cells: 4 in sweep/" in outcome.stdout


def test_a_failed_trial_is_told_to_optuna_and_shown(command_line: CommandLine) -> None:
    outcome = command_line.measure(
        *SEARCH, *LONGEST, "engine.crash_after=null,0", "hydra.sweeper.n_trials=4", "hydra/launcher=joblib_workers"
    )
    rows = table(command_line.folder / "sweep")
    assert set(rows["status"]) == {"finished", "failed"}
    crashed = [number for number, status in rows["status"].items() if status == "failed"]
    assert outcome.status == 1
    assert [error.partition(" was killed")[0] for error in outcome.errors] == [
        f"error: job {number}: the measuring process" for number in crashed
    ]
    best = yaml.safe_load((command_line.folder / "sweep" / "optimization_results.yaml").read_text())
    assert best == {"name": "optuna", "best_params": {"engine.crash_after": "null"}, "best_value": 4.0}


def test_a_cell_without_its_objective_has_failed(command_line: CommandLine) -> None:
    # Of a single token there is no time per output token.
    outcome = command_line.measure(
        *SEARCH, "spec.draft_length=1,2", "sampling.max_new_tokens=1", "hydra.sweeper.n_trials=2"
    )
    assert outcome.status == 1
    assert outcome.errors == [
        f"error: job {number}: objective=tpot_ms_mean: undefined in this run (null in its summary), so it counts as "
        "failed"
        for number in (0, 1)
    ]
    assert not (command_line.folder / "sweep" / "optimization_results.yaml").exists()
    assert list(table(command_line.folder / "sweep")["status"]) == ["finished", "finished"]


REFUSALS = {
    "no metric": (
        ["objective=speed"],
        "objective=speed: not a metric of the sweep's table; choose one of acceptance_length,",
    ),
    "the wrong direction": (
        ["objective=output_tps", "hydra/sweeper=optuna_tpe"],
        "hydra.sweeper.direction=minimize: objective=output_tps is a metric that is better the larger; pass "
        "hydra.sweeper.direction=maximize",
    ),
    "a search with a baseline": (["baseline=auto", "hydra/sweeper=optuna_tpe"], "chooses its cells as it goes"),
    "a search in rounds": (["order=replicates", "hydra/sweeper=optuna_tpe"], "order need Hydra's basic sweeper"),
    "rounds of jobs elsewhere": (
        ["order=replicates", "hydra/launcher=joblib_workers"],
        "order=replicates: hydra/launcher=joblib_workers runs cells in an order of its own",
    ),
}


@pytest.mark.parametrize(("overrides", "words"), REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_be_optimized_is_refused(command_line: CommandLine, overrides: list[str], words: str) -> None:
    outcome = command_line.measure("-m", "spec.draft_length=1,2", *overrides)
    assert outcome.status == 2
    assert words in outcome.error
    assert not list(command_line.folder.iterdir())
