"""What the command line shows of itself, and that it works where only the wheel is."""

from pathlib import Path

import pytest
import yaml

from tests.helpers.command_line import ROOT, CommandLine, Outcome, read_json


@pytest.fixture
def show(command_line: CommandLine) -> "Show":
    return Show(command_line)


class Show:
    """Calls that only print: they succeed, say nothing on stderr and write no file."""

    def __init__(self, command_line: CommandLine) -> None:
        self._command_line = command_line

    def __call__(self, *arguments: str, **environment: str) -> str:
        outcome = self._command_line(*arguments, **environment)
        assert (outcome.status, outcome.stderr) == (0, "")
        assert not list(self._command_line.folder.iterdir())
        return outcome.stdout


def test_help_shows_groups_overrides_and_examples(show: "Show") -> None:
    text = show("--help")
    assert (
        "engine: auto_deploy, llama_cpp_server, sglang, sglang_server, synthetic, tensorrt_llm, tensorrt_llm_server,"
        in text
    )
    assert "tracking: mlflow, none" in text
    assert (
        "spec: custom_class, dflash, draft_model, dspark, eagle, eagle3, medusa, mtp, ngram, ngram_gpu, none, suffix"
        in text
    )
    for override in ("spec.draft_length", "load.concurrency", "sampling.max_new_tokens", "dataset.path", "seed"):
        assert f"\n{override}=" in text
    examples = text.partition("== Examples ==\n")[2].partition("\n\n")[0].splitlines()
    assert len(examples) == 3
    assert all(example.startswith("python run.py") for example in examples)
    assert "replay RUN_DIR" in text
    assert "hydra/launcher: joblib_workers, local_jobs, ray_tasks, slurm\n" in text
    assert "schema/" not in text
    assert "$" not in text


OTHERS = [
    "replicate",
    "expected",
    "slo",
    "cost",
    "baseline",
    "control",
    "verbose",
    "order",
    "capacity",
    "tracking",
    "objective",
]


def test_the_composed_experiment_is_shown_without_running_it(show: "Show") -> None:
    shown = yaml.safe_load(show("--cfg", "job", "spec=ngram", "load.concurrency=4"))
    assert list(shown) == ["engine", "model", "dataset", "spec", "load", "sampling", "seed", *OTHERS]
    chain = {"draft_length_by_batch_size": None, "topk": None, "num_draft_tokens": None}
    assert shown["spec"] == {"name": "ngram", "draft_length": 3, "ngram_min": 1, "ngram_max": 3, **chain}
    assert shown["load"]["concurrency"] == 4


def test_info_shows_where_the_configuration_comes_from(show: "Show") -> None:
    assert f"file://{ROOT / 'conf'}" in show("--info", "searchpath")


@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("python run.py spec=n", ["spec=ngram", "spec=ngram_gpu", "spec=none"]),
        ("python run.py spec=ngram spec.ngram", ["spec.ngram_max=", "spec.ngram_min="]),
    ],
)
def test_bash_completes(show: "Show", line: str, completions: list[str]) -> None:
    # As Hydra's own script for bash asks.
    shown = show("-sc", "query=bash", COMP_LINE=line, COMP_POINT=str(len(line)))
    assert shown.split() == completions


def succeed(outcome: Outcome) -> None:
    assert outcome.status == 0, outcome.stdout + outcome.stderr


def test_an_installed_wheel_runs_anywhere(command_line: CommandLine, tmp_path: Path) -> None:
    wheels, site = tmp_path / "wheels", tmp_path / "site"
    succeed(command_line.python("-m", "build", "--wheel", "--no-isolation", "--outdir", wheels, ROOT))
    (wheel,) = wheels.glob("*.whl")
    succeed(command_line.python("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, wheel))
    outcome = command_line.python(
        "-m", "specdec_bench", *command_line.experiment, "hydra.run.dir=run", "sampling.max_new_tokens=9",
        PYTHONPATH=str(site),
    )  # fmt: skip
    succeed(outcome)
    run = command_line.folder / "run"
    assert read_json(run / "summary.json")["requests"]["finished"] == 3
    assert "uPlot" in (run / "report.html").read_text()
    sources = yaml.safe_load((run / ".hydra" / "hydra.yaml").read_text())["hydra"]["runtime"]["config_sources"]
    assert [s["path"] for s in sources if s["provider"] == "main"] == [str(site / "specdec_bench" / "conf")]
    # The checkout's commit says nothing about what was installed.
    assert read_json(run / "manifest.json")["project"]["git_commit"] is None
