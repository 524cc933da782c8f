"""Hydra, ready to compose conf/ in an empty folder, for the modules that ask for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.composing import conf


@pytest.fixture
def composing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with conf():
        yield
