"""What is planned of a sweep, before anything runs."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig

from specdec_bench.runner.cell import Cell
from specdec_bench.sweep import launch
from specdec_bench.sweep.compose_cell import compose_cell
from specdec_bench.sweep.plan import PlannedCell, Planner
from tests.helpers.composing import conf


@pytest.mark.parametrize("chosen", ["load.concurrency=2,5,1", "experiment=five,two"])
def test_engines_are_sized_for_the_largest_load_of_the_sweep(tmp_path: Path, chosen: str) -> None:
    (tmp_path / "experiment").mkdir()
    for name, concurrency in (("five", 5), ("two", 2)):
        text = f"# @package _global_\nload:\n  concurrency: {concurrency}\n"
        (tmp_path / "experiment" / f"{name}.yaml").write_text(text)
    told: list[int] = []
    planner, cells = planned([chosen, "engine=synthetic", f"hydra.searchpath=[file://{tmp_path}]"], told)
    assert len(cells) == len(told)
    assert set(told) == {5}
    assert planner.largest_concurrency == 5


@pytest.mark.parametrize(
    ("overrides", "sizes"),
    [
        (["load.concurrency=2,65536"], {3}),
        (["load.concurrency=2,65536", "load.repeats=4"], {12}),
        (["load.concurrency=1,2"], {2}),
        (["load.concurrency=1,2", "engine.max_num_seqs=64"], {64}),
        (["load=poisson,constant", "load.rate=1,2", "engine.max_num_seqs=64"], {64}),
    ],
)
def test_an_engine_is_not_sized_for_requests_that_cannot_be(overrides: list[str], sizes: set[int]) -> None:
    """Three conversations; and the baseline is sized as the others are."""
    fixed = ["engine=vllm", "dataset.num_prompts=3", "spec=ngram", "baseline=auto"]
    _, cells = planned([*fixed, *overrides])
    assert {cell.cell.config.spec.name for cell in cells} == {"ngram", "none"}
    assert {cell.cell.config.engine.max_num_seqs for cell in cells} == sizes  # type: ignore[attr-defined]
    assert {cell.cell.identity.baseline_id for cell in cells} == {
        cell.cell.identity.cell_id for cell in cells if cell.is_plain
    }


def planned(overrides: list[str], told: list[int] | None = None) -> tuple[Planner, list[PlannedCell]]:
    """Returns a sweep's planner and cells; `told` takes the largest concurrency that each was made with."""

    def prepare(composed: DictConfig, overrides: Sequence[str], largest_concurrency: int) -> Cell:
        if told is not None:
            told.append(largest_concurrency)
        return compose_cell(composed, overrides, largest_concurrency, command=())

    with conf():
        app = GlobalHydra.instance().hydra
        assert app is not None
        composed = app.compose_config("config", overrides, RunMode.MULTIRUN)
        planner = Planner(app.config_loader, composed, prepare)
        return planner, planner.plan(launch.sweep_overrides(app.config_loader, composed))
