"""The files of a sweep, from rows made by hand."""

from pathlib import Path
from typing import Any

import pandas as pd

from specdec_bench.compare.cell import SweepResult
from specdec_bench.report.sweep_table import write_tables


def written(folder: Path, rows: list[dict[str, Any]], replicates: list[dict[str, Any]]) -> pd.DataFrame:
    result = SweepResult(
        rows=rows, replicates=replicates, comparisons={}, recommendations=[], varying_fields=[], loads={}
    )
    write_tables(result, folder)
    return pd.read_parquet(folder / "sweep.parquet")


def test_an_override_may_be_of_another_type_in_every_cell(tmp_path: Path) -> None:
    values = ["auto", 3, True, None]
    found = written(tmp_path, [{"job": job, "engine.extra_args.k": value} for job, value in enumerate(values)], [])
    assert list(found["engine.extra_args.k"][:3]) == ["auto", "3", "True"]
    assert found["engine.extra_args.k"].isna()[3]


def test_only_a_sweep_with_replicates_has_their_table(tmp_path: Path) -> None:
    written(tmp_path, [{"job": 0}], [])
    assert not (tmp_path / "replicates.csv").exists()
    written(tmp_path, [{"job": 0}, {"job": 1}], [{"job": 0, "num_runs": 2}])
    assert list(pd.read_csv(tmp_path / "replicates.csv")["num_runs"]) == [2]
    assert list(pd.read_parquet(tmp_path / "replicates.parquet")["num_runs"]) == [2]
