"""What is planned of a sweep, before anything runs."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig

from specdec_bench.config import compose
from specdec_bench.job import cell_of
from specdec_bench.runner.cell import Cell
from specdec_bench.sweep import jobs
from specdec_bench.sweep.plan import Planner


@pytest.mark.parametrize("chosen", ["load.concurrency=2,5,1", "experiment=five,two"])
def test_engines_are_sized_for_the_largest_load_of_the_sweep(tmp_path: Path, chosen: str) -> None:
    (tmp_path / "experiment").mkdir()
    for name, concurrency in (("five", 5), ("two", 2)):
        text = f"# @package _global_\nload:\n  concurrency: {concurrency}\n"
        (tmp_path / "experiment" / f"{name}.yaml").write_text(text)
    told: list[int] = []

    def prepare(composed: DictConfig, overrides: Sequence[str], largest_concurrency: int) -> Cell:
        told.append(largest_concurrency)
        return cell_of(composed, overrides, largest_concurrency, command=())

    compose.register_schemas()
    with initialize_config_dir(str(compose.CONF), version_base="1.3"):
        app = GlobalHydra.instance().hydra
        assert app is not None
        overrides = [chosen, "engine=synthetic", f"hydra.searchpath=[file://{tmp_path}]"]
        composed = app.compose_config("config", overrides, RunMode.MULTIRUN)
        planner = Planner(app.config_loader, composed, prepare)
        cells = planner.plan(jobs.sweep_overrides(app.config_loader, composed))
    assert len(cells) == len(told)
    assert set(told) == {5}
    assert planner.largest_concurrency == 5
