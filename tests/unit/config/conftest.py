"""Hydra, ready to compose conf/."""

from collections.abc import Iterator

import pytest

from tests.helpers.composing import conf


@pytest.fixture(autouse=True)
def composing() -> Iterator[None]:
    with conf():
        yield
