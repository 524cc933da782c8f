"""What cannot be run is refused in one line, with exit status 2, and leaves nothing behind."""

import shutil
from pathlib import Path

import pytest

from tests.helpers.command_line import CommandLine
from tests.helpers.in_process import InProcess


@pytest.fixture
def command_line(command_line: CommandLine) -> CommandLine:
    """In the tests' own process: nothing here gets as far as starting another."""
    return InProcess.of(command_line)


REFUSALS = {
    "a misspelt field": (["load.concurency=4"], ["load.concurency=4", "no such field", "did you mean concurrency?"]),
    "a misspelt group": (["speck=ngram"], ["speck=ngram", "dataset, engine, experiment, load", "did you mean spec?"]),
    "an unknown option": (["spec=ngarm"], ["spec=ngarm", "choose one of", "did you mean ngram?"]),
    "a field of another option": (["spec=none", "spec.draft_length=3"], ["spec.draft_length=3", "--cfg job"]),
    "an added field": (["+engine.batch=4"], ["+engine.batch=4", "no such field", "extra_args"]),
    "a removed field": (["~engine.ttft_ms"], ["~engine.ttft_ms", "not removed"]),
    "a word for a number": (["load.concurrency=four"], ["load.concurrency=four", "whole number"]),
    "a number for a list": (["engine.acceptance_rates=0.5"], ["engine.acceptance_rates=0.5", "must be a list"]),
    "out of range": (["spec.draft_length=0"], ["spec.draft_length=0", "at least 1"]),
    "an impossible pair": (
        ["engine=transformers", "load.concurrency=4"],
        ["load.concurrency=4", "engine=transformers", "at most 1"],
    ),
    "a missing dataset file": (["dataset.path=gone.jsonl"], ["dataset.path=gone.jsonl", "no such file"]),
    "a category that is not there": (
        ["dataset.categories=[poetry]"],
        ["'poetry' is not a category of jsonl"],
    ),
    "too many prompts": (["dataset.num_prompts=3"], ["dataset.num_prompts=3", "has 2", "load.repeats"]),
    "a missing model folder": (
        ["engine=transformers", "model=custom", "model.path=./gone"],
        ["model.path=./gone", "no such folder", "owner/name"],
    ),
    "no value": (["model=custom"], ["model.path", "no value", "model.path=VALUE"]),
    "a reference to nothing": (["dataset.path=${gone}"], ["dataset.path", "'gone' not found"]),
    "no sign": (["spec"], ["spec: is not an override", "KEY=VALUE"]),
    "an open bracket": (["sampling.stop_token_ids=[1"], ["sampling.stop_token_ids=[1", "KEY=VALUE"]),
    "several values": (["spec=none,ngram"], ["spec=none,ngram", "-m"]),
    "a null group": (["load=null"], ["load=null", "a group of options"]),
}
"""Overrides after those of the small experiment, and what their refusal says."""


def is_empty(folder: Path) -> bool:
    return not list(folder.iterdir())


@pytest.mark.parametrize(("overrides", "words"), REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_run_is_refused(command_line: CommandLine, overrides: list[str], words: list[str]) -> None:
    outcome = command_line.measure(*overrides)
    assert outcome.status == 2
    for word in words:
        assert word in outcome.error
    assert outcome.stdout == ""
    assert is_empty(command_line.folder)


SWEEPS = {
    "a misspelt field": (["load.concurency=1,4"], "load.concurency=1: no such field"),
    "a field that no cell has": (["spec=none,ngram", "spec.draft.path=a,b"], "spec.draft.path=a: the chosen spec has"),
    "every cell out of range": (["load.concurrency=0,-1"], "load.concurrency=0: must be at least 1"),
}


@pytest.mark.parametrize(("overrides", "words"), SWEEPS.values(), ids=SWEEPS)
def test_a_sweep_that_cannot_run_leaves_nothing(command_line: CommandLine, overrides: list[str], words: str) -> None:
    outcome = command_line.measure("-m", *overrides)
    assert outcome.status == 2
    assert words in outcome.errors[0]
    assert is_empty(command_line.folder)


def test_folders_that_were_there_before_are_left_alone(command_line: CommandLine) -> None:
    (command_line.folder / "mine").mkdir()
    assert command_line.measure("-m", "load.concurrency=0,-1", "hydra.sweep.dir=mine/a/b").status == 2
    assert is_empty(command_line.folder / "mine")


def test_a_folder_with_a_run_is_not_written_into(command_line: CommandLine, finished_run: Path) -> None:
    run = command_line.folder / "run"
    shutil.copytree(finished_run, run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    outcome = command_line.measure("hydra.run.dir=run", "seed=5")
    assert outcome.status == 2
    assert "hydra.run.dir=run: already holds a run" in outcome.error
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_folder_that_cannot_be_made_is_named(command_line: CommandLine) -> None:
    (command_line.folder / "file").touch()
    outcome = command_line.measure("hydra.run.dir=file/run")
    assert outcome.status == 2
    assert "hydra.run.dir=file/run" in outcome.error


def test_flags_that_exclude_each_other(command_line: CommandLine) -> None:
    outcome = command_line("-m", "--cfg", "job")
    assert outcome.status == 2
    assert "Only one of" in outcome.error


FLAGS = {
    "an unknown one": (["--dri-run"], "unrecognized arguments: --dri-run; --help shows"),
    "one without its value": (["--config-dir"], "--config-dir/-cd: expected one argument"),
    "a folder that is not there": (["--config-dir=gone"], "--config-dir=gone: no such folder"),
    "two search paths": (["--config-dir=.", "hydra.searchpath=[file:///x]"], "leave out one of them"),
    "another main file": (["--config-name=mine"], "--config-name: is not supported; choose experiment=NAME"),
    "another folder of files": (["-cp", "mine"], "--config-path: is not supported; pass --config-dir=DIR"),
    "a run of Hydra's": (["--experimental-rerun=x"], "--experimental-rerun: is not supported; specdec-bench replay"),
    "what goes with another": (["--resolve"], "--resolve: is not supported; goes with --cfg"),
}


@pytest.mark.parametrize(("arguments", "words"), FLAGS.values(), ids=FLAGS)
def test_a_flag_is_taken_or_refused_but_never_ignored(
    command_line: CommandLine, arguments: list[str], words: str
) -> None:
    outcome = command_line.measure(*arguments)
    assert outcome.status == 2
    assert words in outcome.error
    assert outcome.stdout == ""
    assert is_empty(command_line.folder)
