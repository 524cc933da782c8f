"""Logs finished runs to MLflow, from their archives alone: what they hold has no secrets."""

import contextlib
import importlib.util
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from specdec_bench.archive.layout import RunDirectory
from specdec_bench.archive.redact import redact_text
from specdec_bench.compare.cell import SweepResult
from specdec_bench.config.schema.tracking import MLflowTracking
from specdec_bench.errors import ConfigError, SharingError, first_line, named
from specdec_bench.records.flatten import flatten
from specdec_bench.records.manifest import Manifest
from specdec_bench.share.upload import find_files

_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # MLflow's own 7 take minutes where nothing answers
}
"""Settings of MLflow's, unless the environment has others."""
_RUN_ID, _SWEEP_ID = "specdec_bench.run_id", "specdec_bench.sweep_id"
"""Tags by which a run or a sweep is found that was logged before."""
MOST_CHARACTERS = 500
"""Of a parameter: what MLflow's oldest servers take."""
_BATCH = 100
"""Parameters that MLflow takes at once."""


class MLflowTracker:
    """A connection to MLflow."""

    def __init__(self, config: MLflowTracking) -> None:
        """Connects to nothing yet.

        Raises:
            ConfigError: MLflow is not installed.
        """
        if importlib.util.find_spec("mlflow") is None:
            raise ConfigError("tracking=mlflow: MLflow is not installed; run: pip install 'specdec-bench[mlflow]'")
        self._config = config
        self._experiment_id = ""
        self._client: Any = None

    def connect(self) -> None:
        """Connects, and finds or makes the experiment.

        Raises:
            ConfigError: the URI is invalid, nothing answers there, or the experiment cannot be used.
        """
        given = f"tracking.uri={'null' if self._config.uri is None else self._config.uri}"
        try:
            with _quiet():
                from mlflow.tracking import MlflowClient

                self._client = MlflowClient(tracking_uri=self._config.uri)
                found = self._client.get_experiment_by_name(self._config.experiment)
                is_deleted = found is not None and found.lifecycle_stage != "active"
                if found is None:
                    self._experiment_id = self._client.create_experiment(self._config.experiment)
                else:
                    self._experiment_id = found.experiment_id
        except Exception as error:  # noqa: BLE001  (each of MLflow's stores has errors of its own)
            reason = redact_text(first_line(error))
            raise ConfigError(f"{given}: cannot be used: {reason}; correct it, or leave tracking out") from None
        if is_deleted:
            raise ConfigError(
                f"tracking.experiment={self._config.experiment}: was deleted in MLflow; restore it, or choose another"
            )

    def log_run(self, run: RunDirectory) -> None:
        """Logs one finished run.

        Raises:
            SharingError: MLflow failed; the archive is complete.
        """
        from specdec_bench.compare.rows import collect

        with _telling(run.path):
            self._log_run(run, collect([(0, run)]).rows[0], parent_id=None)

    def log_sweep(self, folder: Path, sweep_id: str, runs: Mapping[int, RunDirectory], result: SweepResult) -> None:
        """Logs the finished runs of a sweep below a parent, which has the sweep's own files.

        Args:
            folder: the sweep's.
            sweep_id: the same each time that the sweep is resumed.
            runs: by job number.
            result: the sweep's tables.

        Raises:
            SharingError: MLflow failed; the archive is complete.
        """
        with _telling(folder):
            parent_id = self._run(_SWEEP_ID, sweep_id, folder.name, {})
            for row in result.rows:
                job = row["job"]
                if row["status"] == "finished" and isinstance(job, int):
                    self._log_run(runs[job], row, parent_id)
            own = [path for path in find_files(folder)[0] if path.parent == folder]
            self._log_files(parent_id, folder, own)
            self._client.set_terminated(parent_id)

    def _log_run(self, run: RunDirectory, row: Mapping[str, Any], parent_id: str | None) -> None:
        from mlflow.entities import Metric, Param

        manifest = run.manifest()
        tags = _tags(manifest) | ({} if parent_id is None else {"mlflow.parentRunId": parent_id})
        ended_ms = _milliseconds(manifest.finished_utc or manifest.created_utc)
        logged_id = self._run(_RUN_ID, manifest.run_id, run.path.resolve().name, tags, manifest.created_utc)
        params = [Param(name, value) for name, value in parameters(manifest).items()]
        for first in range(0, len(params), _BATCH):
            self._client.log_batch(logged_id, params=params[first : first + _BATCH])
        values = [Metric(name, value, ended_ms, 0) for name, value in metrics(row).items()]
        self._client.log_batch(logged_id, metrics=values)
        self._log_files(logged_id, run.path, find_files(run.path)[0])
        self._client.set_terminated(logged_id, end_time=ended_ms)

    def _run(self, tag: str, value: str, name: str, tags: Mapping[str, str], created_utc: str | None = None) -> str:
        """Returns the id of the MLflow run with this tag, which is made if there is none."""
        found = self._client.search_runs([self._experiment_id], filter_string=f"tags.`{tag}` = '{value}'")
        if found:
            logged_id: str = found[0].info.run_id
            for key, text in tags.items():
                self._client.set_tag(logged_id, key, text)
            return logged_id
        start_ms = None if created_utc is None else _milliseconds(created_utc)
        made = self._client.create_run(
            self._experiment_id, start_time=start_ms, run_name=name, tags={**tags, tag: value}
        )
        return str(made.info.run_id)

    def _log_files(self, logged_id: str, folder: Path, paths: Sequence[Path]) -> None:
        for path in paths if self._config.artifacts else ():
            below = path.parent.relative_to(folder).as_posix()
            self._client.log_artifact(logged_id, str(path), None if below == "." else below)


def parameters(manifest: Manifest) -> dict[str, str]:
    """Returns the archived experiment by dotted key, each value as text of at most MOST_CHARACTERS."""
    found = {}
    for key, value in flatten(manifest.config).items():
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        name = "".join(c if c.isascii() and (c.isalnum() or c in "_-. /") else "_" for c in key)
        found[name] = text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 3]}..."
    return found


def metrics(row: Mapping[str, Any]) -> dict[str, float]:
    """Returns the metrics of a row of a sweep's table, with `_low` and `_high` for their intervals' bounds.

    MLflow has no null: what is undefined is left out.
    """
    from specdec_bench.compare.columns import METRICS

    names = [*METRICS, "speedup_tpot", "speedup_e2e", "speedup_throughput"]
    columns = [name + bound for name in names for bound in ("", "_low", "_high")]
    columns += ["num_finished", "num_failed", "share_identical"]
    values = {name: row.get(name) for name in columns}
    return {name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)}


def _tags(manifest: Manifest) -> dict[str, str]:
    """Returns what says which code measured, on what."""
    tags = {
        "specdec_bench.cell_id": manifest.cell_id,
        "specdec_bench.version": manifest.project.get("version"),
        "specdec_bench.git_dirty": manifest.project.get("git_dirty"),
        "specdec_bench.synthetic": manifest.synthetic,
        "mlflow.source.git.commit": manifest.project.get("git_commit"),
    }
    packages = manifest.environment.get("packages")
    tags |= {f"package.{name}": version for name, version in packages.items()} if isinstance(packages, dict) else {}
    return {name: str(value) for name, value in tags.items() if value is not None}


def _milliseconds(utc: str) -> int:
    return round(datetime.fromisoformat(utc).timestamp() * 1000)


@contextlib.contextmanager
def _telling(path: Path) -> Iterator[None]:
    """Says in one line what MLflow failed at.

    Raises:
        SharingError: for whatever error of MLflow's the block raises.
    """
    try:
        with _quiet():
            yield
    except Exception as error:  # each of MLflow's stores has errors of its own
        raise SharingError(f"{path}: is archived; tracking failed: {redact_text(named(error))}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Sets MLflow's environment, and keeps its warnings off the terminal."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
