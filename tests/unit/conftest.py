"""What tests of several folders use: `made_runs`; and garbage collections that leave out what was imported."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _imports_frozen() -> Iterator[None]:
    """With torch loaded, a full collection takes 0.3 s."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
