"""The folder of a sweep."""

from pathlib import Path

import pytest

from specdec_bench.archive.layout import RunDirectory
from specdec_bench.archive.sweep_plan import Plan, PlannedRun, find_runs
from specdec_bench.errors import ArchiveInputError, ConfigError
from specdec_bench.sweep.directory import SweepDirectory
from specdec_bench.sweep.latest import find, record
from tests.helpers.made_runs import manifest


def test_a_second_sweep_is_kept_out_until_the_first_has_left(tmp_path: Path) -> None:
    with SweepDirectory(tmp_path / "sweep"), pytest.raises(ArchiveInputError, match="another sweep"):
        SweepDirectory(tmp_path / "sweep").__enter__()
    with SweepDirectory(tmp_path / "sweep"):
        pass


def test_a_sweep_is_not_gone_on_with_while_jobs_of_it_run(tmp_path: Path) -> None:
    sweep = SweepDirectory(tmp_path)
    with (
        sweep.taking_part(),
        sweep.taking_part(),
        pytest.raises(ArchiveInputError, match="jobs of it are still running"),
    ):
        SweepDirectory(tmp_path).__enter__()
    with SweepDirectory(tmp_path), sweep.taking_part():
        pass


def write_plan(sweep: Path, created_utc: str, *cells: PlannedRun) -> None:
    plan = Plan(schema_version=1, created_utc=created_utc, overrides=(), baseline="none", cells=cells)
    sweep.mkdir(parents=True, exist_ok=True)
    SweepDirectory(sweep).write_plan(plan)


def test_the_latest_sweep_is_the_one_that_was_planned_last_wherever_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outputs = Path("outputs")
    with pytest.raises(ConfigError, match="no sweep"):
        find("latest", outputs)
    write_plan(outputs / "2026-01-02" / "23-00-00", "2026-01-02T23:00:00+00:00")
    write_plan(outputs / "a" / "b" / "mine", "2026-01-03T00:00:00+00:00")
    assert find("latest", outputs) == outputs / "a" / "b" / "mine"
    write_plan(tmp_path / "elsewhere", "2026-01-04T00:00:00+00:00")
    assert find("latest", outputs) == outputs / "a" / "b" / "mine"
    record(Path("elsewhere"), outputs)
    record(outputs / "a" / "b" / "mine", outputs)  # found without a note
    assert (outputs / ".sweeps").read_text().splitlines() == [str(tmp_path.resolve() / "elsewhere")]
    assert find("latest", outputs) == Path("elsewhere")
    (tmp_path / "elsewhere" / "sweep.json").unlink()
    assert find("latest", outputs) == outputs / "a" / "b" / "mine"


def run(folder: Path, cell_id: str, status: str = "finished") -> Path:
    folder.mkdir(parents=True)
    config = {group: {} for group in ("engine", "model", "dataset", "spec", "load", "sampling")}
    RunDirectory(folder).write_manifest(manifest(cell_id=cell_id, status=status, config=config))
    return folder


def test_a_run_is_taken_for_a_cell_by_its_id_alone(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    cells = [PlannedRun(number=n, role="asked", cell_id=f"c{n}", folder=str(n), overrides=()) for n in range(4)]
    write_plan(sweep, "2026-01-02T23:00:00+00:00", *cells)
    run(sweep / "0", "c0")
    run(sweep / "1", "other")
    run(sweep / "renamed", "c2")
    run(sweep / "copy", "c0")
    run(sweep / "3", "c3", "interrupted")
    run(sweep / "again", "c3")
    run(sweep / "attempts" / "1-1", "c1")
    run(sweep / "stray", "unknown")
    found = SweepDirectory(sweep).found()
    assert {number: taken.path.name for number, taken in found.runs.items()} == {0: "0", 2: "renamed", 3: "again"}
    assert sorted(found.not_taken) == [
        f"{sweep / '1'}: not taken into the sweep, the run is of another cell than job 1",
        f"{sweep / '3'}: not taken into the sweep, job 3 has its run in {sweep / 'again'}",
        f"{sweep / 'copy'}: not taken into the sweep, job 0 has its run in {sweep / '0'}",
        f"{sweep / 'stray'}: not taken into the sweep, the run is of none of its cells",
    ]
    # A folder above takes the same runs of the sweep, and all others.
    run(tmp_path / "single", "c0")
    below = find_runs(tmp_path).runs.values()
    assert [taken.path.name for taken in below] == ["single", "0", "again", "renamed"]
