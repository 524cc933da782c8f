"""Runs and sweeps in MLflow, in its own local store."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from specdec_bench.archive import RunDirectory
from specdec_bench.compare.rows import collect
from specdec_bench.config.schema.tracking import MLflowTracking
from specdec_bench.errors import ConfigError, SharingError
from specdec_bench.share.mlflow import MLflowTracker, parameters
from tests.helpers.archive_samples import CONFIG, make_manifest, make_prompt
from tests.helpers.made_archives import plain, reply, write_run

PROMPTS = [make_prompt(0), make_prompt(1)]
RECORDS = [reply(PROMPTS[0], (3, 1)), reply(PROMPTS[1], (2, 0))]
"""6 drafts accepted in 4 verify steps: length 2.5."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> "Store":
    return Store(tmp_path_factory.mktemp("mlflow"))


@pytest.fixture
def tracker(store: "Store", tmp_path: Path) -> Iterator[MLflowTracker]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(store.folder)  # where MLflow puts artifacts
        yield store.tracker(tmp_path.name)


class Store:
    """MLflow as one who looks into it sees it. Each test has an experiment of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uri = f"sqlite:///{folder}/mlflow.db"

    def tracker(self, experiment: str, **settings: Any) -> MLflowTracker:
        tracker = MLflowTracker(MLflowTracking(uri=self.uri, experiment=experiment, **settings))
        tracker.connect()
        return tracker

    def runs(self, experiment: str) -> dict[str, Any]:
        """Returns the experiment's runs by their names."""
        client = self.client()
        found = client.get_experiment_by_name(experiment)
        return {run.info.run_name: run for run in client.search_runs([found.experiment_id])}

    def artifacts(self, run: Any, below: str | None = None) -> list[str]:
        found = []
        for entry in self.client().list_artifacts(run.info.run_id, below):
            found += self.artifacts(run, entry.path) if entry.is_dir else [entry.path]
        return sorted(found)

    def client(self) -> Any:
        from mlflow.tracking import MlflowClient

        return MlflowClient(tracking_uri=self.uri)


def write(folder: Path, **changes: Any) -> RunDirectory:
    values: dict[str, Any] = {
        "run_id": f"id of {folder.name}",
        "finished_utc": "2026-01-31T12:00:05+00:00",
        "environment": {"packages": {"vllm": "0.32.0"}},
        "project": {"version": "1.2", "git_commit": "abc", "git_dirty": False},
    }
    return write_run(folder, changes.pop("records", RECORDS), PROMPTS, **(values | changes))


def test_a_run_has_its_parameters_metrics_tags_and_files(store: Store, tracker: MLflowTracker, tmp_path: Path) -> None:
    run = write(tmp_path / "run", synthetic="no model was run")
    tracker.log_run(run)
    (logged,) = store.runs(tmp_path.name).values()
    assert logged.info.status == "FINISHED"
    assert logged.info.end_time == 1_769_860_805_000
    assert logged.data.params["spec.draft_length"] == "3"
    assert logged.data.params["load.concurrency"] == "1"
    assert logged.data.metrics["acceptance_length_drafted"] == 2.5
    assert logged.data.metrics["acceptance_length_low"] <= logged.data.metrics["acceptance_length"]
    assert logged.data.metrics["num_finished"] == 2
    assert "cost_per_million_tokens" not in logged.data.metrics  # undefined
    tags = {
        "specdec_bench.run_id": "id of run",
        "specdec_bench.synthetic": "no model was run",
        "mlflow.source.git.commit": "abc",
        "package.vllm": "0.32.0",
    }
    assert logged.data.tags.items() >= tags.items()
    assert store.artifacts(logged) == sorted(path.name for path in run.path.iterdir())


def test_a_run_that_was_logged_is_updated_and_not_logged_twice(
    store: Store, tracker: MLflowTracker, tmp_path: Path
) -> None:
    run = write(tmp_path / "run")
    tracker.log_run(run)
    tracker.log_run(run)
    assert len(store.runs(tmp_path.name)) == 1


def test_the_cells_of_a_sweep_lie_below_their_parent(store: Store, tracker: MLflowTracker, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    runs = {
        0: write(sweep / "plain", spec="none", records=[plain(record) for record in RECORDS]),
        1: write(sweep / "ngram"),
        2: write(sweep / "failed", draft_length=4, status="failed"),
    }
    (sweep / "sweep.csv").write_text("x")
    for _ in range(2):  # as when it is resumed
        tracker.log_sweep(sweep, "s", runs, collect(list(runs.items())))
    logged = store.runs(tmp_path.name)
    assert logged.keys() == {"sweep", "plain", "ngram"}
    assert {logged[name].data.tags["mlflow.parentRunId"] for name in ("plain", "ngram")} == {
        logged["sweep"].info.run_id
    }
    assert store.artifacts(logged["sweep"]) == ["sweep.csv"]
    # 10 ms a token, against 20 ms for 6 and 20 ms for 4 tokens after the first.
    assert logged["ngram"].data.metrics["speedup_tpot"] == pytest.approx(10 / ((20 / 6 + 20 / 4) / 2))


def test_files_can_be_left_out(store: Store, tracker: MLflowTracker, tmp_path: Path) -> None:
    store.tracker(tmp_path.name, artifacts=False).log_run(write(tmp_path / "run"))
    (logged,) = store.runs(tmp_path.name).values()
    assert store.artifacts(logged) == []


def test_long_values_are_cut_and_names_are_such_as_mlflow_takes() -> None:
    config = CONFIG | {"engine": {"extra_args": {"a=b": "x" * 501, "list": [1, None]}}}
    found = parameters(make_manifest(config=config))
    assert found["engine.extra_args.a_b"] == "x" * 497 + "..."
    assert found["engine.extra_args.list"] == "[1,null]"


def test_a_tracker_that_fails_says_that_the_run_is_archived(
    store: Store, tracker: MLflowTracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write(tmp_path / "run")
    monkeypatch.setattr(tracker._client, "log_batch", lambda *_, **__: (_ for _ in ()).throw(OSError("disk is full")))
    with pytest.raises(SharingError, match=r"run: is archived; tracking failed: OSError: disk is full"):
        tracker.log_run(run)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("sqlite:////dev/null/x.db", "/dev/null"),
        ("nosuch://x", "nosuch"),
        ("file:///tmp/nosuch_mlruns", "maintenance mode"),
        ("http://127.0.0.1:9", "tracking.uri=http://127.0.0.1:9: cannot be used"),
    ],
)
def test_a_store_that_cannot_be_used_is_refused(uri: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ConfigError, match=r"^tracking\.uri=") as refused:
        MLflowTracker(MLflowTracking(uri=uri)).connect()
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"tracking=mlflow: MLflow is not installed; run: pip install"):
        MLflowTracker(MLflowTracking())
