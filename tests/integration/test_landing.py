"""A sweep lands where it was told to, goes on wherever it lies, and takes nobody else's runs."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from specdec_bench import archive
from tests.helpers.command_line import ROOT, TIMEOUT_S, CommandLine, Outcome, measured, read_json
from tests.helpers.in_process import InProcess

SHORT = ("sampling.max_new_tokens=5", "load.num_warmup=0")


def at_once(command_line: CommandLine, *runs: list[str]) -> list[Outcome]:
    """Starts several runs at the same moment."""
    processes = [
        subprocess.Popen(
            [sys.executable, str(ROOT / "run.py"), *command_line.experiment, *SHORT, *arguments],
            cwd=command_line.folder,
            env=command_line.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        for arguments in runs
    ]
    ends = [process.communicate(timeout=TIMEOUT_S) for process in processes]
    return [Outcome(process.returncode, *end) for process, end in zip(processes, ends, strict=True)]


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def table(sweep: Path) -> pd.DataFrame:
    return pd.read_parquet(sweep / "sweep.parquet")


REFUSED = {
    "outside": (["-m", "hydra.sweep.subdir=../../evil", "spec.draft_length=1,2"], "outside the sweep's folder"),
    "a sweep in several": (["-m", "spec=ngram,none", "hydra.sweep.dir=X/${spec.name}"], "a sweep|has one folder"),
    "one for two cells": (["-m", "seed=1,2", "hydra.sweep.subdir=x"], "job 1 would land in x, as job 0 does"),
    "the working directory": (["hydra.run.dir="], "would write into the working directory"),
    "a run's in a sweep": (["-m", "seed=1,2", "hydra.run.dir=x"], "pass hydra.sweep.dir=DIR"),
    "a search's cells in one": (
        ["-m", "seed=1,2", "hydra/sweeper=optuna_tpe", "hydra.sweep.subdir=${spec.name}"],
        "job 1 would land in ngram, as job 0 does",
    ),
}


@pytest.mark.parametrize(("arguments", "words"), REFUSED.values(), ids=REFUSED)
def test_where_nothing_can_land_nothing_is_written(command_line: CommandLine, arguments: list[str], words: str) -> None:
    outcome = InProcess.of(command_line).measure(*arguments)
    assert outcome.status == 2
    assert any(word in outcome.error for word in words.split("|"))
    assert everything(command_line.folder) == everything(command_line.folder.parent / "cwd") == []
    assert sorted(path.name for path in command_line.folder.parent.iterdir()) == ["cwd"]


def test_what_starts_in_the_same_second_gets_folders_of_its_own(command_line: CommandLine) -> None:
    # By the day, so that it does not depend on the machine whether they start in the same second.
    runs = [[f"seed={seed}", "hydra.run.dir=out/${now:%Y}"] for seed in (1, 2, 3)]
    sweeps = [["-m", f"seed={seed},9", "hydra.sweep.dir=out/${now:%Y}-sweep"] for seed in (4, 5)]
    outcomes = at_once(command_line, *runs, *sweeps)
    assert [(outcome.status, outcome.stderr) for outcome in outcomes] == [(0, "")] * 5
    folders = sorted((command_line.folder / "out").iterdir())
    singles = [path for path in folders if (path / "manifest.json").exists()]
    several = [path for path in folders if (path / "sweep.json").exists()]
    assert (len(singles), len(several), len(folders)) == (3, 2, 5)
    assert sorted(read_json(path / "manifest.json")["config"]["seed"] for path in singles) == [1, 2, 3]
    for path in singles:
        (seed,) = (line for line in (path / ".hydra" / "overrides.yaml").read_text().split() if "seed=" in line)
        assert seed == f"seed={read_json(path / 'manifest.json')['config']['seed']}"
    assert sorted(tuple(table(path)["seed"]) for path in several) == [(4, 9), (5, 9)]
    assert len(archive.load(command_line.folder / "out")["run_id"].unique()) == 7


def test_of_runs_that_want_one_folder_one_gets_it(command_line: CommandLine) -> None:
    outcomes = at_once(command_line, *([f"seed={seed}", "hydra.run.dir=run"] for seed in (1, 2, 3)))
    assert sorted(outcome.status for outcome in outcomes) == [0, 2, 2]
    for outcome in outcomes:
        assert outcome.status == 0 or outcome.error.startswith("error: hydra.run.dir=run: ")
    run = command_line.folder / "run"
    seed = read_json(run / "manifest.json")["config"]["seed"]
    assert outcomes[seed - 1].status == 0
    assert f"seed={seed}" in (run / ".hydra" / "overrides.yaml").read_text()


NIGHTLY = """\
# @package _global_
defaults:
  - override /spec: ngram
hydra:
  mode: MULTIRUN
  sweep:
    subdir: K${spec.draft_length}/at${load.concurrency}
  sweeper:
    params:
      spec.draft_length: 1,3
      load.concurrency: 1,2
"""


def test_a_sweep_goes_on_wherever_it_lies_and_runs_nothing_twice(command_line: CommandLine, prompts: Path) -> None:
    (command_line.folder / "own" / "experiment").mkdir(parents=True)
    (command_line.folder / "own" / "experiment" / "nightly.yaml").write_text(NIGHTLY)
    (command_line.folder / "prompts.jsonl").write_bytes(prompts.read_bytes())
    arguments = ["engine=synthetic", "dataset=jsonl", "dataset.path=prompts.jsonl", *SHORT, "hydra.sweep.dir=mine/s"]
    began = command_line("--config-dir=own", "experiment=nightly", *arguments)
    assert (began.status, began.stderr) == (0, "")
    sweep = command_line.folder / "mine" / "s"
    folders = ["K1/at1", "K1/at2", "K3/at1", "K3/at2"]
    assert [cell["folder"] for cell in read_json(sweep / "sweep.json")["cells"]] == folders
    ids = [read_json(sweep / folder / "manifest.json")["run_id"] for folder in folders]

    # One cell was cut off, as its process's end leaves it.
    (sweep / "K3" / "at1" / "requests.jsonl").unlink()
    manifest = (sweep / "K3" / "at1" / "manifest.json").read_text()
    (sweep / "K3" / "at1" / "manifest.json").write_text(manifest.replace('"finished"', '"started"'))
    assert "4 cells, 3 done" in command_line("resume=latest", "--dry-run").stdout
    # It was moved, and goes on from another folder, through other processes.
    moved = sweep.rename(command_line.folder / "moved")
    elsewhere = CommandLine(command_line.folder / "own", command_line.environment, prompts)
    resumed = elsewhere("resume=../moved", "hydra/launcher=joblib_workers")
    assert (resumed.status, resumed.errors) == (0, [])
    again = [read_json(moved / folder / "manifest.json") for folder in folders]
    assert [one["status"] for one in again] == ["finished"] * 4
    assert [one["run_id"] for one in again][:2] == ids[:2]
    assert again[2]["run_id"] != ids[2]
    assert again[3]["run_id"] == ids[3]
    assert list(table(moved)["job"]) == [0, 1, 2, 3]
    assert list(archive.load(moved)["run_dir"].unique()) == folders
    assert everything(command_line.folder / "own") == ["experiment", "experiment/nightly.yaml"]
    refused = command_line("resume=moved", "hydra.sweep.subdir=x")
    assert "hydra.sweep.subdir=x: resume=moved continues the sweep in moved with its own settings" in refused.error


def test_a_run_of_another_cell_is_named_and_not_taken(command_line: CommandLine) -> None:
    assert command_line.measure("-m", "seed=1,2", *SHORT, "hydra.sweep.dir=sweep").status == 0
    assert command_line.measure("seed=3", *SHORT, "hydra.run.dir=other").status == 0
    sweep = command_line.folder / "sweep"
    (sweep / "1").rename(sweep / "renamed")
    (command_line.folder / "other").rename(sweep / "1")
    outcome = command_line("summarize", "sweep")
    assert outcome.status == 0
    assert "sweep/1: not taken into the sweep, the run is of another cell than job 1" in outcome.stdout
    assert list(table(sweep)["seed"]) == [1, 2]
    assert list(archive.load(sweep)["seed"].unique()) == [1, 2]
    assert len(archive.load(sweep).attrs["not_taken"]) == 1
    assert "2 cells, 2 done" in command_line("resume=sweep", "--dry-run").stdout
    inside = command_line.measure("seed=4", "hydra.run.dir=sweep/4")
    assert inside.status == 2
    assert "lies in the folder of a run or a sweep" in inside.error
    assert len(measured(sweep / "renamed")) == 3
