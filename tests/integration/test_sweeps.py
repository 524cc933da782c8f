"""Grids of cells: in folders of their own, on one engine where they can, each for itself when it fails."""

from pathlib import Path
from typing import Any

import yaml

from tests.helpers.command_line import CommandLine, measured, read_json

TOKEN, HEADER = "hf_abcdefghijklmnop", "sk-0123456789abcdef"


def cells(sweep: Path) -> dict[str, dict[str, Any]]:
    """Returns the manifests by cell."""
    return {path.parent.name: read_json(path) for path in sorted(sweep.glob("*/manifest.json"))}


def test_a_grid_starts_an_engine_for_each_of_its_configurations(command_line: CommandLine) -> None:
    outcome = command_line.measure(
        "-m",
        "spec.draft_length=1,3",
        "load.concurrency=1,4",
        "sampling.max_new_tokens=9",
        "engine.acceptance_rates=[1.0]",
        "hydra.sweep.dir=sweep",
    )
    assert (outcome.status, outcome.stderr) == (0, "")
    sweep = command_line.folder / "sweep"
    manifests = cells(sweep)
    assert [m["status"] for m in manifests.values()] == ["finished"] * 4
    settings = [(m["config"]["spec"]["draft_length"], m["config"]["load"]["concurrency"]) for m in manifests.values()]
    assert settings == [(1, 1), (1, 4), (3, 1), (3, 4)]
    assert [m["engine"]["reused"] for m in manifests.values()] == [False, True, False, True]
    # 8 tokens after the prefill's: in 4 steps of 1 draft and the target's own, or in 2 steps of 3 and one.
    lengths = [read_json(sweep / name / "summary.json")["acceptance"]["pooled"]["acceptance_length"] for name in "0123"]
    assert lengths == [2.0, 2.0, 4.0, 4.0]
    # The engine is lossless, whatever drafts and however many at a time.
    outputs = [{r["request_id"]: r["output_token_ids"] for r in measured(sweep / name)} for name in "0123"]
    assert outputs[0] == outputs[1] == outputs[2] == outputs[3]


def test_a_grid_over_methods_keeps_secrets_out_of_every_file(command_line: CommandLine) -> None:
    outcome = command_line.measure(
        "-m",
        "spec=none,ngram",
        "sampling.max_new_tokens=9",
        f"+model.chat_template_kwargs.token={TOKEN}",
        f"+model.chat_template_kwargs.headers={{x: 1, authorization: {HEADER}}}",
        "hydra.sweep.dir=sweep",
    )
    assert outcome.status == 0
    sweep = command_line.folder / "sweep"
    manifests = cells(sweep)
    assert [m["config"]["spec"]["name"] for m in manifests.values()] == ["none", "ngram"]
    assert [m["engine"]["reused"] for m in manifests.values()] == [False, False]

    files = [path for path in sweep.rglob("*") if path.is_file()]
    assert {"multirun.yaml", "hydra.yaml", "config.yaml", "run.log", "manifest.json"} <= {path.name for path in files}
    for path in files:
        content = path.read_bytes()
        assert TOKEN.encode() not in content, path
        assert HEADER.encode() not in content, path
    config = yaml.safe_load((sweep / "0" / "config.yaml").read_text())
    assert config["model"]["chat_template_kwargs"] == {
        "token": "[redacted]",
        "headers": {"x": 1, "authorization": "[redacted]"},
    }
    assert "+model.chat_template_kwargs.token=[redacted]" in manifests["0"]["overrides"]

    # Going on with it, though all of it is done, saves the overrides again.
    headers = f"{{x: 1, authorization: {HEADER}}}"
    secrets = (f"+model.chat_template_kwargs.token={TOKEN}", f"+model.chat_template_kwargs.headers={headers}")
    resumed = command_line.measure("-m", "spec=none,ngram", "sampling.max_new_tokens=9", *secrets, "resume=sweep")
    assert resumed.status == 0
    for path in (path for path in sweep.rglob("*") if path.is_file()):
        assert TOKEN.encode() not in path.read_bytes(), path
        assert HEADER.encode() not in path.read_bytes(), path

    # Such a run cannot be replayed, since nobody has what was taken out.
    refused = command_line("replay", "sweep/1", "--output", "replayed")
    assert refused.status == 2
    assert (
        "model.chat_template_kwargs.token, model.chat_template_kwargs.headers.authorization was a secret"
        in refused.error
    )
    assert not (command_line.folder / "replayed").exists()


def test_a_failed_cell_does_not_stop_the_others(command_line: CommandLine) -> None:
    outcome = command_line.measure(
        "-m", "engine.fail_every=1,null", "sampling.max_new_tokens=9", "hydra.sweep.dir=sweep"
    )
    assert outcome.status == 1
    assert outcome.errors == [
        "error: job 0: no request finished: 2 failed, the first because: synthetic failure: engine.fail_every=1",
    ]
    assert {name: m["status"] for name, m in cells(command_line.folder / "sweep").items()} == {
        "0": "failed",
        "1": "finished",
    }
    # The table says which and why.
    assert "1 of 2 cells have no metrics:" in outcome.stdout
    assert "  job 0 failed: no request finished: 2 failed, the first because: synthetic failure" in outcome.stdout
    # A cell's own plots are for `summarize` to draw.
    assert [path.name for path in (command_line.folder / "sweep").rglob("*.png")] == ["sweep.png"]


def test_a_configuration_can_say_that_it_is_a_sweep(command_line: CommandLine) -> None:
    outcome = command_line.measure("hydra.mode=MULTIRUN", "load.repeats=0,-1", "hydra.sweep.dir=sweep")
    assert outcome.status == 2
    assert outcome.errors == [
        "error: job 0 (load.repeats=0): load.repeats=0: must be at least 1",
    ]
