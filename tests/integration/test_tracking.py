"""`tracking=mlflow` on the command line: what it logs, what it leaves alone, and how it fails."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.command_line import read_json
from tests.helpers.in_process import run

EXPERIMENT = ("engine=synthetic", "spec=ngram", "dataset.num_prompts=2", "sampling.max_new_tokens=8")
BREAKS = "mlflow.tracking.MlflowClient.log_batch"


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for all tests: making one takes seconds. MLflow keeps it open by its URI."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def tracked(uri: str, tmp_path: Path) -> list[str]:
    """The overrides that log to an experiment of the test's own."""
    return ["tracking=mlflow", f"tracking.uri={uri}", f"tracking.experiment={tmp_path.name}"]


def logged(uri: str, experiment: str) -> list[Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    return list(client.search_runs([client.get_experiment_by_name(experiment).experiment_id]))


def fail(*_: object, **__: object) -> None:
    raise ConnectionError("gone: https://me:hunter2hunter2@host/")


def test_a_run_is_the_same_experiment_with_tracking_and_without(tmp_path: Path, uri: str, tracked: list[str]) -> None:
    outcome = run(tmp_path, *EXPERIMENT, *tracked, "hydra.run.dir=tracked")
    assert (outcome.status, outcome.stderr) == (0, "")
    assert run(tmp_path, *EXPERIMENT, "hydra.run.dir=alone").status == 0
    manifests = [read_json(tmp_path / name / "manifest.json") for name in ("tracked", "alone")]
    assert manifests[0]["cell_id"] == manifests[1]["cell_id"]
    assert manifests[0]["config"] == manifests[1]["config"]
    (found,) = logged(uri, tmp_path.name)
    assert found.data.tags["specdec_bench.run_id"] == manifests[0]["run_id"]
    summary = read_json(tmp_path / "tracked" / "summary.json")
    assert found.data.metrics["acceptance_length"] == summary["acceptance"]["pooled"]["acceptance_length"]


def test_a_sweep_is_logged_once_though_it_is_resumed(tmp_path: Path, uri: str, tracked: list[str]) -> None:
    sweep = run(tmp_path, "-m", *EXPERIMENT, *tracked, "spec.draft_length=1,2", "hydra.sweep.dir=sweep")
    assert sweep.status == 0, sweep.stderr
    assert len(logged(uri, tmp_path.name)) == 3
    assert run(tmp_path, "resume=sweep").status == 0
    found = logged(uri, tmp_path.name)
    assert sorted(run.data.params.get("spec.draft_length", "") for run in found) == ["", "1", "2"]


@pytest.mark.parametrize("many", [False, True])
def test_a_tracker_that_fails_is_one_line_beside_a_whole_archive(
    tmp_path: Path, tracked: list[str], monkeypatch: pytest.MonkeyPatch, many: bool
) -> None:
    monkeypatch.setattr(BREAKS, fail)
    sweep = ("-m", "hydra.sweep.dir=out") if many else ("hydra.run.dir=out/0",)
    failed = run(tmp_path, *sweep, *EXPERIMENT, *tracked)
    assert failed.status == 1
    assert "is archived; tracking failed: ConnectionError: gone: https://[redacted]@host/" in failed.error
    assert read_json(tmp_path / "out" / "0" / "manifest.json")["status"] == "finished"


def test_a_password_in_the_uri_is_neither_archived_nor_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specdec_bench.share.mlflow.MLflowTracker.connect", lambda _: None)
    monkeypatch.setattr("specdec_bench.share.mlflow.MLflowTracker.log_run", lambda *_: None)
    tracked = (*EXPERIMENT, "tracking=mlflow", "tracking.uri=http://me:hunter2hunter2@127.0.0.1:9")
    measured = run(tmp_path, *tracked, "hydra.run.dir=run")
    assert measured.status == 0, measured.stderr
    assert "tracking.uri=http://[redacted]@127.0.0.1:9" in read_json(tmp_path / "run" / "manifest.json")["overrides"]
    for path in (tmp_path / "run").rglob("*"):
        assert path.is_dir() or b"hunter2" not in path.read_bytes(), path
    shown = run(tmp_path, *tracked, "--cfg", "job")
    assert yaml.safe_load(shown.stdout)["tracking"]["uri"] == "http://[redacted]@127.0.0.1:9"
    assert "hunter2" not in measured.stdout + measured.stderr + shown.stdout


def test_a_search_for_capacity_does_not_pretend_to_log(tmp_path: Path) -> None:
    refused = run(tmp_path, "capacity", *EXPERIMENT, "load=poisson", "slo.ttft_ms=9", "tracking=mlflow")
    assert refused.status == 2
    assert "tracking=mlflow: is of runs and sweeps" in refused.error
