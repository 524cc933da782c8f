"""To which tracker finished runs are logged. Changes nothing in how a run runs, and is not archived."""

from dataclasses import dataclass
from typing import ClassVar

from omegaconf import MISSING

from specdec_bench.config.schema.ranges import Bounded, require


@dataclass(kw_only=True)
class TrackingConfig(Bounded):
    """Where finished runs are logged, besides their archives."""

    GROUP: ClassVar[str] = "tracking"

    name: str = MISSING


@dataclass(kw_only=True)
class NoTracking(TrackingConfig):
    """Nowhere."""

    name: str = "none"


@dataclass(kw_only=True)
class MLflowTracking(TrackingConfig):
    """In MLflow: one MLflow run a cell, below a parent in a sweep."""

    name: str = "mlflow"
    uri: str | None = None
    """Of the tracking server or database, such as sqlite:///mlflow.db; null: what MLFLOW_TRACKING_URI says, or MLflow's
    default."""
    experiment: str = "specdec_bench"
    """MLflow's experiment; it is made if it is not there."""
    artifacts: bool = True
    """Whether the archive's files are logged too."""

    def __post_init__(self) -> None:
        Bounded.__post_init__(self)
        require(self.uri != "", "tracking.uri", "", "is empty; give a URI, or null")
        require(self.experiment.strip() != "", "tracking.experiment", self.experiment, "is empty; give a name")


OPTIONS: dict[str, type] = {"none": NoTracking, "mlflow": MLflowTracking}
"""The dataclass behind each option of the group."""
