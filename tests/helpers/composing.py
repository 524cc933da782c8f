"""Composes experiments as the command line does."""

from hydra import compose as hydra_compose

from specdec_bench.config import compose
from specdec_bench.config.schema.experiment import ExperimentConfig


def experiment(*overrides: str) -> ExperimentConfig:
    return compose.experiment(hydra_compose("config", overrides=list(overrides)))
