"""Archives of an earlier version (tests/archives) say today what they said then."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from specdec_bench import archive
from specdec_bench.archive import RunDirectory
from specdec_bench.metrics.definitions import DEFINITIONS, changed_definitions
from specdec_bench.records.flatten import flatten
from specdec_bench.runner.cell import encoded_summary, samples_of
from tests.helpers import in_process

ARCHIVES = Path(__file__).resolve().parents[1] / "archives"
RUNS = sorted(str(path.parent.relative_to(ARCHIVES)) for path in ARCHIVES.rglob("manifest.json"))
CHANGED = {"output_tps_per_user", "lateness_ms", "saturated"}
"""The metrics that have another definition now than the archives' version had; those of lateness in words only."""
OTHER_INTERVALS = {"ttft_ms_p50_low", "ttft_ms_p50_high"}
"""Columns whose bootstrap took the lower of two middle values for a median."""


def differences(then: Any, now: Any, path: str = "") -> list[str]:
    """Returns what differs between two values, nested or not; floats may in their last digits."""
    if isinstance(then, dict) and isinstance(now, dict):
        return [line for key in then for line in differences(then[key], now.get(key, "gone"), f"{path}.{key}")]
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        pairs = enumerate(zip(then, now, strict=True))
        return [line for at, (one, other) in pairs for line in differences(one, other, f"{path}[{at}]")]
    if isinstance(then, float) and isinstance(now, float | int):
        return [] if math.isclose(then, now, rel_tol=1e-9) else [f"{path}: {then} then, {now} now"]
    return [] if then == now else [f"{path}: {then!r} then, {now!r} now"]


def test_there_is_an_archive_of_every_engine_that_runs_here() -> None:
    engines = {RunDirectory.open(ARCHIVES / name).manifest().config["engine"]["name"] for name in RUNS}
    assert engines == {"synthetic", "transformers", "vllm", "sglang"}


@pytest.mark.parametrize("name", RUNS)
def test_every_value_of_a_summary_is_what_it_was(name: str) -> None:
    run = RunDirectory.open(ARCHIVES / name)
    then = json.loads((ARCHIVES / name / "summary.json").read_text())
    definitions = then.pop("definitions")
    assert set(changed_definitions(definitions)) == CHANGED
    assert definitions.keys() <= DEFINITIONS.keys()
    now = json.loads(encoded_summary(samples_of(run), run.manifest()))
    kept = {path: value for path, value in flatten(then).items() if not CHANGED & set(path.split("."))}
    assert len(kept) > 100
    assert differences(kept, flatten(now)) == []


@pytest.mark.parametrize("name", RUNS)
def test_an_archive_is_a_table_of_its_requests(name: str) -> None:
    """One conversation of two turns and one of a single turn, twice, after a warm-up."""
    frame = archive.load(ARCHIVES / name)
    assert list(frame["phase"]) == ["warmup", *["measure"] * 6]
    assert (frame["num_output_tokens"] <= 8).all()
    assert frame["error"].isna().all()


def test_the_tables_of_a_sweep_are_what_they_were(tmp_path: Path) -> None:
    shutil.copytree(ARCHIVES / "sweep", tmp_path / "sweep")
    then = pd.read_csv(ARCHIVES / "sweep" / "sweep.csv")
    outcome = in_process.run(tmp_path, "summarize", "sweep")
    assert (outcome.status, outcome.stderr) == (0, "")
    now = pd.read_csv(tmp_path / "sweep" / "sweep.csv")
    kept = [column for column in then.columns if not any(name in column for name in CHANGED | OTHER_INTERVALS)]
    pd.testing.assert_frame_equal(now[kept], then[kept], check_dtype=False, rtol=1e-9)
    assert list(then["spec"]) == ["ngram", "none"]
    assert list(now["speedup_tpot"].notna()) == [True, False]
    assert (tmp_path / "sweep" / "sweep.parquet").is_file()
