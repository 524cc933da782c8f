"""Hydra, ready to compose conf/."""

from collections.abc import Iterator

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from specdec_bench.config import compose
from specdec_bench.config.compose import CONF


@pytest.fixture(autouse=True)
def composing() -> Iterator[None]:
    compose.register_schemas()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield
    GlobalHydra.instance().clear()
