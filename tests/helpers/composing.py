"""Composes experiments as the command line does."""

import contextlib
from collections.abc import Iterator

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from specdec_bench.config import compose, own_files
from specdec_bench.config.schema.experiment import ExperimentConfig


@contextlib.contextmanager
def conf() -> Iterator[None]:
    """Hydra is ready to compose conf/ within the block."""
    own_files.register()
    compose.register_schemas()
    with initialize_config_dir(str(compose.CONF), version_base="1.3"):
        yield
    GlobalHydra.instance().clear()


def experiment(*overrides: str) -> ExperimentConfig:
    return compose.experiment(hydra_compose("config", overrides=list(overrides)))
