"""Searches the highest rate at which a share of the requests meets the objectives, with and without speculation."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from logging import LogRecord
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf

from specdec_bench.archive import RunDirectory, codec, files
from specdec_bench.archive.names import CAPACITY, LOG
from specdec_bench.archive.redact import redact_overrides
from specdec_bench.archive.sweep_plan import run_folders
from specdec_bench.compare import capacity as statistics
from specdec_bench.compare.capacity import Probe, ProbeRun
from specdec_bench.config.schema.load import PoissonLoad, RateLoad
from specdec_bench.config.schema.ranges import CONVERSATIONS, RATE, require
from specdec_bench.config.schema.slo import Capacity
from specdec_bench.config.schema.spec import NoSpec
from specdec_bench.errors import ConfigError
from specdec_bench.metrics.goodput import OBJECTIVES
from specdec_bench.records.capacity import Bracket, CapacityProbe, CapacityResult, CapacitySide
from specdec_bench.records.interval import Interval
from specdec_bench.report.progress import Cells
from specdec_bench.runner import held_log
from specdec_bench.runner.cell import Cell
from specdec_bench.sweep.bracket import search
from specdec_bench.sweep.compose_cell import compose_cell
from specdec_bench.sweep.plan import override_key, without_hydra
from specdec_bench.sweep.run_cell import run_and_show

if TYPE_CHECKING:
    from specdec_bench.datasets import Selection

RESULT, TABLE, PROBES = CAPACITY, "probes.csv", "probes"


@dataclass(kw_only=True)
class Method:
    """One side of the comparison."""

    name: str
    overrides: list[str]
    probes: dict[float, Probe] = field(default_factory=dict)
    rows: dict[float, CapacityProbe] = field(default_factory=dict)


class CapacitySearch:
    """Runs the probes of both methods into one folder."""

    def __init__(
        self,
        loader: ConfigLoader,
        composed: DictConfig,
        overrides: Sequence[str],
        command: Sequence[str],
    ) -> None:
        """Takes a search.

        Args:
            loader: Hydra's.
            composed: Hydra's tree of the experiment.
            overrides: that it was composed from, without Hydra's own.
            command: the command line.

        Raises:
            ConfigError: the experiment states no objective, has no rate, or drafts nothing.
            SpecDecBenchError: it cannot be run.
        """
        self._loader = loader
        self._composed = composed
        self._overrides = list(overrides)
        self._folder = Path()
        self._command = command
        self._prompts: dict[str, tuple[Selection, list[LogRecord]]] = {}
        self._cells = Cells(total=None, is_verbose=composed.verbose)
        settings = OmegaConf.to_object(composed.capacity)
        assert isinstance(settings, Capacity)
        self._settings = settings
        asked = self._compose(overrides).config
        load = asked.load
        if not isinstance(load, RateLoad):
            raise ConfigError(f"load={load.name}: has no rate to search; pass load=poisson load.rate=WHERE_TO_START")
        fix = "the search says how many; pass capacity.min_duration_s and capacity.min_requests"
        require(load.num_conversations is None, "load.num_conversations", load.num_conversations, fix)
        require(load.duration_s is None, "load.duration_s", load.duration_s, fix)
        self.objectives = {name: value for name in OBJECTIVES if (value := getattr(asked.slo, name)) is not None}
        if not self.objectives:
            raise ConfigError("slo: states no objective; pass slo.ttft_ms, slo.tpot_ms or slo.e2e_ms, in ms")
        if isinstance(asked.spec, NoSpec):
            raise ConfigError("spec=none: plain decoding is always searched; choose the method to compare with it")
        self._start_rate = load.rate
        self._draws_arrivals = isinstance(load, PoissonLoad)
        plain = [override for override in overrides if override_key(override).partition(".")[0] != "spec"]
        self.methods = (
            Method(name=asked.spec.name, overrides=list(overrides)),
            Method(name="none", overrides=[*plain, "spec=none"]),
        )
        self._compose(self.methods[1].overrides)
        self._finished: dict[str | None, RunDirectory] = {}

    def run(self, folder: Path) -> CapacityResult:
        """Searches both methods and writes the result. Finished runs of an earlier search are not run again.

        Args:
            folder: where the result and the runs land, or where an earlier search put them.

        Raises:
            SpecDecBenchError: a run failed, or was stopped.
        """
        self._folder = folder
        runs = [RunDirectory.open(path) for path in run_folders(self._folder / PROBES)]
        self._finished = {run.manifest().cell_id: run for run in runs if run.manifest().status == "finished"}
        result = self._result("started", ())
        self._write(result)
        sides = []
        for method in self.methods:
            bracket = search(
                functools.partial(self._passes, method),
                self._start_rate,
                self._settings.tolerance,
                least=RATE.least,
                most=RATE.most,
            )
            sides.append(self._side(method, bracket))
        result = self._result("finished", tuple(sides))
        self._write(result)
        return result

    def _passes(self, method: Method, rate: float) -> bool:
        """Runs a rate with every seed."""
        runs: list[ProbeRun] = []
        folders: list[RunDirectory] = []
        for seed in range(self._settings.num_seeds):
            cell = self._cell(method, rate, seed)
            run = self._finished.get(cell.identity.cell_id)
            if run is None:
                run = self._run(cell, f"{method.name}-{rate:g}-{seed}")
            folders.append(run)
            runs.append(statistics.read_run(run.requests(), self.objectives))
        probe = Probe(load=rate, runs=runs)
        method.probes[rate] = probe
        method.rows[rate] = CapacityProbe(
            rate=rate,
            share_within_slo=probe.share,
            is_backlog_growing=probe.is_growing,
            passed=probe.passes(self._settings.share),
            num_judged=sum(judged for run in runs for _, judged in run.outcomes.values()),
            is_client_saturated=any(run.summary().client.saturated for run in folders),
            runs=tuple(str(run.path.relative_to(self._folder)) for run in folders),
        )
        return method.rows[rate].passed

    def _cell(self, method: Method, rate: float, seed: int) -> Cell:
        number = max(self._settings.min_requests, math.ceil(rate * self._settings.min_duration_s))
        fix = f"needs {number:,} conversations in a run; lower capacity.min_duration_s"
        require(number <= CONVERSATIONS.most, "load.rate", rate, fix)
        same = "load.arrival_seed" if self._draws_arrivals else "replicate"
        own = [f"load.rate={rate!r}", f"load.num_conversations={number}", f"{same}={seed}"]
        return self._compose([*method.overrides, *own])

    def _compose(self, overrides: Sequence[str]) -> Cell:
        composed = self._loader.load_sweep_config(self._composed, list(overrides))
        return compose_cell(without_hydra(composed), overrides, command=self._command, prompts=self._prompts)

    def _run(self, cell: Cell, name: str) -> RunDirectory:
        folder = next(path for path in self._names(name) if not path.exists())  # an earlier attempt stays where it is
        folder.mkdir(parents=True)
        with held_log.logging_to(folder / LOG):
            return run_and_show(cell, folder, draws=False, cells=self._cells)

    def _names(self, name: str) -> "list[Path]":
        folder = self._folder / PROBES
        taken = sum(1 for _ in folder.glob(f"{name}*"))
        return [folder / name, *(folder / f"{name}-again{number}" for number in range(1, taken + 2))]

    def _side(self, method: Method, bracket: Bracket) -> CapacitySide:
        probes = [method.probes[rate] for rate in sorted(method.probes)]
        is_closed = bracket.passed is not None and bracket.failed is not None
        return CapacitySide(
            method=method.name,
            bracket=bracket,
            capacity=statistics.capacity(probes, self._settings.share) if is_closed else Interval(value=None),
            probes=tuple(method.rows[rate] for rate in sorted(method.rows)),
        )

    def _result(self, status: str, sides: tuple[CapacitySide, ...]) -> CapacityResult:
        settings, default = self._settings, Capacity()
        ratio = Interval(value=None)
        if sides and all(side.capacity.value is not None for side in sides):
            speculative, plain = (list(method.probes.values()) for method in self.methods)
            ratio = statistics.capacity_ratio(speculative, plain, settings.share)
        names = ("share", "tolerance", "num_seeds", "min_duration_s", "min_requests")
        return CapacityResult(
            status=status,
            overrides=tuple(redact_overrides(self._overrides)),
            objectives=self.objectives,
            settings={name: getattr(settings, name) for name in names},
            is_below_default=settings.min_duration_s < default.min_duration_s
            or settings.min_requests < default.min_requests,
            synthetic=self._synthetic(),
            sides=sides,
            ratio=ratio,
        )

    def _synthetic(self) -> str | None:
        rows = [row for method in self.methods for row in method.rows.values()]
        return RunDirectory.open(self._folder / rows[0].runs[0]).manifest().synthetic if rows else None

    def _write(self, result: CapacityResult) -> None:
        files.write_atomically(self._folder / RESULT, [codec.encode_document(result)])
        if result.sides:
            from specdec_bench.report.capacity_table import probes_csv  # imports pandas

            files.write_atomically(self._folder / TABLE, [probes_csv(result.sides)])
