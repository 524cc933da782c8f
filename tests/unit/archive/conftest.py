from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from specdec_bench.archive import RunDirectory
from tests.helpers.archive_samples import CONFIG_YAML, make_manifest, make_prompt


@pytest.fixture
def new_run(tmp_path: Path) -> Callable[..., RunDirectory]:
    """Returns a function that makes a run directory below the test's folder."""

    def make(name: str = "run", **changes: Any) -> RunDirectory:
        return RunDirectory.create(tmp_path / name, make_manifest(**changes), [make_prompt()], CONFIG_YAML)

    return make
