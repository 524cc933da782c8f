"""Plans a sweep's cells: composes and checks all of them before the first starts."""

import copy
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, flag_override

from specdec_bench.config.compose import max_in_flight
from specdec_bench.config.identity import engine_key
from specdec_bench.config.schema.experiment import AUTO, Order
from specdec_bench.config.schema.spec import NoSpec
from specdec_bench.errors import ConfigError, SpecDecBenchError
from specdec_bench.sweep.grid_size import check_size
from specdec_bench.sweep.settings import check_cell_settings

if TYPE_CHECKING:
    from specdec_bench.runner.cell import Cell  # imports datasets, engines, tokenizers: a refusal needs none

Role = Literal["asked", "baseline", "control"]
"""Asked for by the user; added to compare with; run once more to measure noise."""

Prepare = Callable[[DictConfig, Sequence[str], int], "Cell"]
"""Takes one job's tree (without Hydra's own settings), its overrides and the sweep's largest concurrency. Returns the
checked cell."""


@dataclass(frozen=True, kw_only=True)
class PlannedCell:
    """One job of a sweep."""

    number: int
    """Hydra's job number."""
    role: Role
    overrides: tuple[str, ...]
    composed: DictConfig
    """Hydra's tree of the job, its own settings included."""
    cell: "Cell"
    engine_key: str

    @property
    def run_dir(self) -> Path:
        """Where Hydra puts the job."""
        return Path(self.composed.hydra.sweep.dir) / self.subdir

    @property
    def subdir(self) -> str:
        """Its folder below the sweep's."""
        return str(self.composed.hydra.sweep.subdir)

    @property
    def is_plain(self) -> bool:
        """Whether nothing is drafted."""
        return isinstance(self.cell.config.spec, NoSpec)


class Planner:
    """Composes the cells of one sweep."""

    def __init__(self, loader: ConfigLoader, composed: DictConfig, prepare: Prepare) -> None:
        """Takes Hydra's loader, its tree of the sweep as a whole, and a function that makes a cell of a job."""
        self._loader = loader
        self._composed = composed
        self._prepare = prepare
        self.largest_concurrency = 1
        """The largest of all cells, once they are planned. It sizes an engine that they share."""
        self._dropped: dict[tuple[str, ...], set[str]] = {}
        self._cells: dict[str, PlannedCell] = {}
        self._swept: set[str] = set()

    def plan(self, overrides: Sequence[Override]) -> list[PlannedCell]:
        """Returns the sweep's cells in the order of their job numbers, without duplicates.

        Raises:
            ConfigError: there are no cells, or too many.
            ConfigCompositionException: an override fits none of the cells, or a value is wrong.
            SpecDecBenchError: a cell cannot be run; the message names its overrides.
        """
        check_size(overrides)
        (jobs,) = BasicSweeper.split_arguments(list(overrides), None)
        self._swept = {
            override_key(override.input_line or "") for override in overrides if override.is_sweep_override()
        }
        refused: dict[str, ConfigCompositionException] = {}
        accepted: set[str] = set()
        asked: list[tuple[tuple[str, ...], DictConfig]] = []
        for job in jobs:
            composed, fitting, errors = self._compose(job)
            refused |= errors
            accepted |= {override_key(override) for override in fitting}
            asked.append((fitting, composed))
        for key, error in refused.items():
            if key not in accepted:
                raise error
        self.largest_concurrency = max(max_in_flight(composed) for _, composed in asked)
        for fitting, composed in asked:
            self._add("asked", fitting, composed)
        if self._composed.baseline == AUTO:
            for speculative in [planned for planned in self._cells.values() if not planned.is_plain]:
                replicate = speculative.cell.config.replicate
                if replicate > 0 or speculative.cell.identity.baseline_id not in self._cells:
                    self._derive("baseline", speculative, "spec=none", f"replicate={replicate}")
        if self._composed.control:
            for plain in [planned for planned in self._cells.values() if planned.is_plain]:
                if plain.cell.config.replicate == 0:
                    self._derive("control", plain, "replicate=1")
        return list(self._cells.values())

    def _compose(
        self, overrides: Sequence[str]
    ) -> tuple[DictConfig, tuple[str, ...], dict[str, ConfigCompositionException]]:
        """Returns a job's tree, the overrides that it has fields for, and by key the errors of those left out.

        A plain run has no draft length: `spec=none,ngram spec.draft_length=1,3` is three cells. An override that
        is left out of every cell is a mistake, which `plan` refuses.
        """
        # The chosen groups decide which fields exist.
        choices = tuple(sorted(override for override in overrides if "." not in override_key(override)))
        errors: dict[str, ConfigCompositionException] = {}
        while True:
            dropped = self._dropped.get(choices, set())
            fitting = tuple(override for override in overrides if override_key(override) not in dropped)
            try:
                return self._loader.load_sweep_config(self._composed, list(fitting)), fitting, errors
            except ConfigCompositionException as error:
                key = unknown_key(error)
                if key is None or key in dropped or key not in {override_key(override) for override in overrides}:
                    raise
                self._dropped.setdefault(choices, set()).add(key)
                errors[key] = error

    def _derive(self, role: Role, planned: PlannedCell, *changes: str) -> None:
        """Adds a cell that differs from another in these overrides alone."""
        groups = {override_key(change) for change in changes}
        kept = [override for override in planned.overrides if override_key(override).partition(".")[0] not in groups]
        composed, fitting, errors = self._compose([*kept, *changes])
        for error in errors.values():
            raise error
        self._add(role, fitting, composed)

    def _add(self, role: Role, overrides: tuple[str, ...], composed: DictConfig) -> None:
        number = len(self._cells)
        with flag_override(composed, ["struct", "readonly"], [False, False]):
            composed.hydra.job.id = str(number)
            composed.hydra.job.num = number
        check_cell_settings(self._composed, composed, number)
        try:
            cell = self._prepare(without_hydra(composed), overrides, self.largest_concurrency)
            identity = cell.identity
        except SpecDecBenchError as error:
            own = " ".join(override for override in overrides if override_key(override) in self._swept)
            raise type(error)(f"job {number} ({own}): {error}") from error
        same = self._cells.get(identity.cell_id)
        if same is not None and same.cell.config.slo != cell.config.slo:
            raise ConfigError(
                f"job {number} ({' '.join(overrides)}): differs from job {same.number} in its objectives (slo) alone, "
                "which change nothing in how it runs; choose one of them"
            )
        if same is None:
            self._cells[identity.cell_id] = PlannedCell(
                number=number,
                role=role,
                overrides=overrides,
                composed=composed,
                cell=cell,
                engine_key=engine_key(cell.config),
            )


def in_running_order(cells: Sequence[PlannedCell], order: Order) -> list[PlannedCell]:
    """Returns the cells in their order, except that those which can share an engine follow one another.

    By replicates, every second one runs backwards, so that a machine that slows down slows all methods alike.
    """
    if order is Order.replicates:
        replicates = sorted({planned.cell.config.replicate for planned in cells})
        ordered = []
        for index, replicate in enumerate(replicates):
            same = [planned for planned in cells if planned.cell.config.replicate == replicate]
            ordered += _by_engine(same)[:: -1 if index % 2 else 1]
        return ordered
    return _by_engine(cells)


def _by_engine(cells: Iterable[PlannedCell]) -> list[PlannedCell]:
    groups: dict[str, list[PlannedCell]] = {}
    for planned in cells:
        groups.setdefault(planned.engine_key, []).append(planned)
    return list(itertools.chain.from_iterable(groups.values()))


def num_engine_starts(cells: Sequence[PlannedCell], order: Order) -> int:
    """Returns how many engines these cells start if they run one after another in that order."""
    return sum(1 for _ in itertools.groupby(in_running_order(cells, order), key=lambda planned: planned.engine_key))


def without_hydra(composed: DictConfig) -> DictConfig:
    """Returns a copy of a job's tree without Hydra's own settings."""
    experiment = copy.deepcopy(composed)
    with flag_override(experiment, ["struct", "readonly"], [False, False]):
        del experiment["hydra"]
    return experiment


def unknown_key(error: ConfigCompositionException) -> str | None:
    """Returns the field that an override names and the experiment lacks, or None if the error has another cause."""
    match = re.search(r"Could not override '([^']+)'", str(error))
    return match[1] if match else None


def override_key(override: str) -> str:
    """Returns the key that an override sets, without its sign, value and package."""
    return override.lstrip("+~").partition("=")[0].partition("@")[0]
