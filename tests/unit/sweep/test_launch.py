"""What goes with a sweep that is gone on with, and how its cells are handed to a launcher."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.types import RunMode
from omegaconf import DictConfig

from specdec_bench.runner.cell import Cell
from specdec_bench.sweep import landing, launch
from specdec_bench.sweep.compose_cell import compose_cell
from specdec_bench.sweep.plan import Planner

BEGAN_WITH = ["hydra/launcher=slurm", "hydra.launcher.partition=gpu", "+hydra.sweep.subdir=a", "hydra.searchpath=[x]"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ([], BEGAN_WITH),
        (["seed=1", "hydra.launcher.partition=cpu"], [BEGAN_WITH[0], *BEGAN_WITH[2:]]),
        (["hydra/launcher=joblib_workers"], BEGAN_WITH[2:]),
        (["hydra.searchpath=[y]"], BEGAN_WITH[:3]),
    ],
)
def test_what_is_given_again_replaces_what_a_sweep_began_with(given: list[str], kept: list[str]) -> None:
    assert launch.not_given_again(BEGAN_WITH, given) == kept


class NotingLauncher:
    def __init__(self) -> None:
        self.launched: list[tuple[int, list[str]]] = []

    def launch(self, overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[None]:
        subdirs = [one for job in overrides for one in job if one.startswith(landing.SUBDIR)]
        self.launched.append((initial_job_idx, subdirs))
        return [None] * len(overrides)


pytestmark = pytest.mark.usefixtures("composing")


def test_a_launcher_is_handed_as_many_cells_at_a_time_as_it_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(composed: DictConfig, overrides: Sequence[str], largest_concurrency: int) -> Cell:
        return compose_cell(composed, overrides, largest_concurrency, command=())

    app: Any = GlobalHydra.instance().hydra
    overrides = ["engine=synthetic", "spec=ngram", "seed=1,2,3,4,5", "hydra/launcher=joblib_workers"]
    batches = ["hydra.sweeper.max_batch_size=2", "hydra.sweep.subdir=s${seed}"]
    composed = app.compose_config("config", [*overrides, *batches], RunMode.MULTIRUN)
    cells = Planner(app.config_loader, composed, prepare).plan(launch.sweep_overrides(app.config_loader, composed))
    folders = landing.find_cell_folders(
        [(cell.number, cell.composed) for cell in cells], Path(composed.hydra.sweep.dir)
    )
    for cell in cells:
        landing.settle_cell(cell.composed, Path("sweep"), folders[cell.number])
    launcher = NotingLauncher()
    monkeypatch.setattr(Plugins.instance(), "instantiate_launcher", lambda **_: launcher)
    list(launch.launch(cells, app.config_loader, composed, lambda _: None, lambda _: None))
    subdirs = [f"hydra.sweep.subdir='s{seed}'" for seed in range(1, 6)]
    assert launcher.launched == [(0, subdirs[:2]), (2, subdirs[2:4]), (4, subdirs[4:])]
