"""The folder of a sweep."""

from pathlib import Path

import pytest

from specdec_bench.errors import ArchiveError, ConfigError
from specdec_bench.sweep.directory import SweepDirectory, find


def test_a_second_sweep_is_kept_out_until_the_first_has_left(tmp_path: Path) -> None:
    with SweepDirectory(tmp_path / "sweep"), pytest.raises(ArchiveError, match="another sweep"):
        SweepDirectory(tmp_path / "sweep").__enter__()
    with SweepDirectory(tmp_path / "sweep"):
        pass


def test_a_sweep_is_not_gone_on_with_while_jobs_of_it_run(tmp_path: Path) -> None:
    sweep = SweepDirectory(tmp_path)
    with sweep.taking_part(), sweep.taking_part(), pytest.raises(ArchiveError, match="jobs of it are still running"):
        SweepDirectory(tmp_path).__enter__()
    with SweepDirectory(tmp_path), sweep.taking_part():
        pass


def test_the_latest_sweep_is_the_one_with_the_last_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no sweep"):
        find("latest", tmp_path)
    for name in ("2026-01-02/03-04-05", "2026-01-02/13-04-05", "2026-01-02/23-00-00"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("2026-01-02/03-04-05", "2026-01-02/13-04-05"):
        (tmp_path / name / "sweep.json").write_text("{}")
    assert find("latest", tmp_path) == tmp_path / "2026-01-02/13-04-05"
