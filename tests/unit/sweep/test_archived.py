"""Which archived plain run a cell is compared with."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from specdec_bench.archive.layout import RunDirectory
from specdec_bench.errors import ConfigError
from specdec_bench.sweep.baselines import check_archived
from tests.helpers.made_runs import manifest


def plain(folder: Path, cell_id: str) -> RunDirectory:
    folder.mkdir()
    run = RunDirectory(folder)
    run.write_manifest(manifest(cell_id=cell_id))
    return run


def test_a_cell_has_one_archived_plain_run_or_is_refused(tmp_path: Path) -> None:
    identity = SimpleNamespace(baseline_id="b")
    planned: Any = SimpleNamespace(
        is_plain=False, number=3, overrides=("spec=ngram",), cell=SimpleNamespace(identity=identity)
    )
    first, second, other = plain(tmp_path / "1", "b"), plain(tmp_path / "2", "b"), plain(tmp_path / "3", "x")
    check_archived([first, other], [planned], {})
    with pytest.raises(ConfigError, match=r"/1 and .*/2 are both plain runs of job 3 \(spec=ngram\)"):
        check_archived([first, second, other], [planned], {})
