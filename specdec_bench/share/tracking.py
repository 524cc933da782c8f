"""Chooses the tracker that an experiment asks for."""

from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from specdec_bench.config.schema.tracking import MLflowTracking

if TYPE_CHECKING:
    from specdec_bench.share.mlflow import MLflowTracker


def create_tracker(composed: DictConfig) -> "MLflowTracker | None":
    """Returns the tracker of a composed experiment or sweep; None if it has none.

    Raises:
        ConfigError: the tracker's package is not installed.
    """
    config = OmegaConf.to_object(composed.tracking)
    if not isinstance(config, MLflowTracking):
        return None
    from specdec_bench.share.mlflow import MLflowTracker

    return MLflowTracker(config)
