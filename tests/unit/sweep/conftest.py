"""Hydra, ready to compose conf/ in an empty folder, for the modules that ask for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from specdec_bench.config import compose


@pytest.fixture
def composing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    compose.register_schemas()
    with initialize_config_dir(str(compose.CONF), version_base="1.3"):
        yield
    GlobalHydra.instance().clear()
