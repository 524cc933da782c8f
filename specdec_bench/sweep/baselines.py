"""Plain runs of an archive, to compare a sweep with."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from specdec_bench.archive import RunDirectory, provenance
from specdec_bench.archive.provenance import comparable
from specdec_bench.archive.sweep_plan import find_runs
from specdec_bench.config.compose import to_tree
from specdec_bench.config.schema.experiment import AUTO, NO_BASELINE
from specdec_bench.errors import ConfigError
from specdec_bench.records.labels import method_of
from specdec_bench.records.options import option
from specdec_bench.sweep.plan import PlannedCell


def check_archived(runs: Iterable[RunDirectory], cells: Sequence[PlannedCell], environment: dict[str, Any]) -> None:
    """Refuses archived plain runs that do not match, before anything is measured.

    Args:
        runs: the archived ones.
        cells: of the sweep.
        environment: this process's.

    Raises:
        ConfigError: naming the fields that differ, or two runs that both match.
    """
    by_id: dict[str | None, list[RunDirectory]] = defaultdict(list)
    for archived in runs:
        by_id[archived.manifest().cell_id].append(archived)
    plain = {cell_id: of_cell[-1] for cell_id, of_cell in by_id.items()}
    for planned in cells:
        if planned.is_plain:
            continue
        run = plain.get(planned.cell.identity.baseline_id)
        if run is None:
            nearest = min(plain.values(), key=lambda other: len(_differences(other, planned)))
            differing = "; ".join(_differences(nearest, planned)) or "the model's or the prompts' content"
            raise ConfigError(
                f"baseline: none of {len(plain)} archived plain runs is the one of job {planned.number} "
                f"({' '.join(planned.overrides)}); the nearest, {nearest.path}, differs in {differing}"
            )
        if len(same := by_id[planned.cell.identity.baseline_id]) > 1:
            raise ConfigError(
                f"baseline: {same[0].path} and {same[1].path} are both plain runs of job {planned.number} "
                f"({' '.join(planned.overrides)}); give the folder of one"
            )
        then, now = comparable(run.manifest().environment), comparable(environment)
        # Only the measuring process sees its accelerators and threads; they are compared when it has measured.
        seen_here = [name for name in then if name not in ("accelerators", "thread_settings")]
        changed = [name for name in seen_here if then[name] != now.get(name)]
        if changed:
            raise ConfigError(
                f"baseline: {run.path} was measured in another environment: "
                + "; ".join(f"{name} was {then[name]} and is {now.get(name)}" for name in changed)
            )


def _differences(run: RunDirectory, planned: PlannedCell) -> list[str]:
    """Returns the fields in which a plain run's configuration differs from a cell's."""
    then, now = run.manifest().config, to_tree(planned.cell.config)
    fields = {
        f"{group}.{name}": (option(then, group, name), value)
        for group in ("engine", "model", "dataset", "load", "sampling")
        for name, value in now[group].items()
    }
    fields["seed"] = (then["seed"], now["seed"])
    return [f"{name} ({there} there, {here} here)" for name, (there, here) in fields.items() if there != here]


def archived_baselines(baseline: str, cells: Sequence[PlannedCell]) -> list[RunDirectory]:
    """Returns the plain runs of an archived run or sweep, after checking that they match the cells.

    Raises:
        ConfigError: there is none, or the one that a cell needs does not match.
    """
    if plain := baseline_runs(baseline):
        check_archived(plain, cells, provenance.environment())
    return plain


def baseline_runs(baseline: str) -> list[RunDirectory]:
    """Returns the finished plain runs of an archived run or sweep, the oldest last.

    Raises:
        ConfigError: the named folder has none.
    """
    if baseline in (NO_BASELINE, AUTO):
        return []
    runs = sorted(find_runs(Path(baseline)).runs.values(), key=lambda run: run.manifest().created_utc, reverse=True)
    plain = [
        run for run in runs if method_of(run.manifest().config)[0] == "none" and run.manifest().status == "finished"
    ]
    if not plain:
        raise ConfigError(f"baseline={baseline}: holds no finished plain run; use none, auto, or the folder of one")
    return plain
