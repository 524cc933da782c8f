"""A dataset, an engine, a load and a metric of a package of their own: tests/helpers/toy_plugin, installed."""

import os
from pathlib import Path

import pytest

from tests.helpers.command_line import ROOT, CommandLine, read_json

TOY = ROOT / "tests" / "helpers" / "toy_plugin"
EXPERIMENT = ("dataset=toy", "engine=toy", "load=toy", "spec=none", "sampling.max_new_tokens=8")


def path_with(*folders: Path) -> str:
    return os.pathsep.join([*map(str, folders), str(ROOT), os.environ.get("PYTHONPATH", "")])


def install(folder: Path, entry_point: str, code: str = "") -> Path:
    """Returns a folder for the module path in which a plugin is installed, as far as Python can tell."""
    (folder / "toy_bench.py").write_text(code, encoding="utf-8")
    information = folder / "toy_bench-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-bench\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[specdec_bench.plugins]\ntoy = {entry_point}\n")
    return folder


def test_a_plugin_s_options_are_shown_run_summarized_and_replayed(command_line: CommandLine) -> None:
    path = path_with(TOY)
    text = command_line("--help", PYTHONPATH=path).stdout
    assert "speed_bench, toy\n" in text
    assert "tensorrt_llm_server, toy, transformers" in text
    assert "num_people: 3" in command_line("--cfg", "job", "dataset=toy", PYTHONPATH=path).stdout

    outcome = command_line(*EXPERIMENT, "hydra.run.dir=run", PYTHONPATH=path)
    assert (outcome.status, outcome.stderr) == (0, "")
    summary = read_json(command_line.folder / "run" / "summary.json")
    assert summary["requests"]["finished"] == 3
    assert summary["acceptance"]["pooled"]["output_tokens"] == 3 * 8
    assert summary["extra"] == {"most_tokens": {"value": 8, "definition": "max over requests of output tokens"}}

    outcome = command_line("summarize", "run", PYTHONPATH=path)
    assert outcome.stdout.endswith("summary.json: unchanged\n")
    outcome = command_line("replay", "run", "--output=again", PYTHONPATH=path)
    assert outcome.status == 0
    assert "3 of 3 outputs and 3 of 3 acceptances identical" in outcome.stdout
    assert read_json(command_line.folder / "again" / "replay.json")["must_be_identical"] is True


@pytest.mark.parametrize("launcher", ["basic", "joblib_workers"])
def test_a_sweep_of_a_plugin_s_runs_in_any_launcher_s_processes(command_line: CommandLine, launcher: str) -> None:
    overrides = ("-m", *EXPERIMENT, "dataset.num_people=1,2", f"hydra/launcher={launcher}", "hydra.sweep.dir=sweep")
    outcome = command_line(*overrides, PYTHONPATH=path_with(TOY))
    assert outcome.status == 0, outcome.stderr
    for job in (0, 1):
        summary = read_json(command_line.folder / "sweep" / str(job) / "summary.json")
        assert summary["requests"]["finished"] == job + 1
        assert summary["extra"]["most_tokens"]["value"] == 8


def test_a_plugin_s_load_that_cannot_be_split_is_refused_with_clients(command_line: CommandLine) -> None:
    """Nothing is asked or loaded before: there is neither such a server nor such a model."""
    server = ("engine=vllm_server", "engine.url=http://127.0.0.1:1", "model=custom", "model.path=/nowhere")
    overrides = ("load=toy", "load.clients=auto", "spec=none", "hydra.run.dir=run")
    outcome = command_line(*server, *overrides, PYTHONPATH=path_with(TOY))
    words = "error: load.clients=auto: load=toy cannot be split over clients; leave it at 1"
    assert (outcome.status, outcome.error) == (2, words)
    assert not (command_line.folder / "run").exists()


def test_an_archive_is_summarized_where_its_plugin_is_not_installed(command_line: CommandLine) -> None:
    command_line("-m", *EXPERIMENT, "seed=0,1", "hydra.sweep.dir=sweep", PYTHONPATH=path_with(TOY))
    outcome = command_line("summarize", "sweep")
    assert (outcome.status, outcome.stderr) == (0, "")
    outcome = command_line("summarize", "sweep/0")
    assert (outcome.status, outcome.stderr) == (0, "")
    assert "extra" not in read_json(command_line.folder / "sweep" / "0" / "summary.json")


PLUGIN = """
from specdec_bench.config.plugins import *
PLUGIN = Plugin(%s)
"""


@pytest.mark.parametrize(
    ("entry_point", "reason"),
    [
        ("nowhere:PLUGIN", "cannot be loaded: ModuleNotFoundError: No module named 'nowhere'; repair or uninstall it"),
        ("toy_bench:PLUGIN", "cannot be loaded: ZeroDivisionError: division by zero; repair or uninstall it"),
        ("json:dumps", "is a function; name a specdec_bench.config.plugins.Plugin"),
    ],
)
def test_a_broken_plugin_is_one_line(command_line: CommandLine, tmp_path: Path, entry_point: str, reason: str) -> None:
    outcome = command_line("--version", PYTHONPATH=path_with(install(tmp_path, entry_point, "1 / 0")))
    assert (outcome.status, outcome.error) == (2, f"error: plugin toy: {entry_point} {reason}")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("1 / 0", "fails: ZeroDivisionError: division by zero; repair it"),
        ("float('nan')", "gives nan; it must be a finite number, or None"),
    ],
)
def test_a_metric_that_fails_keeps_the_run_and_says_so(
    command_line: CommandLine, tmp_path: Path, value: str, reason: str
) -> None:
    metric = f"ExtraMetric(definition='d', compute=lambda records: {value})"
    folder = install(tmp_path, "toy_bench:PLUGIN", PLUGIN % f"metrics={{'broken': {metric}}}")
    outcome = command_line.measure("hydra.run.dir=run", PYTHONPATH=path_with(folder))
    assert outcome.status == 2
    assert outcome.error == f"error: the metric broken of a plugin {reason}"
    assert read_json(command_line.folder / "run" / "manifest.json")["status"] == "failed"
    assert command_line("summarize", "run").status == 0
    assert read_json(command_line.folder / "run" / "summary.json")["requests"]["finished"] == 3
