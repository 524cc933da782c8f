"""What the command line does once an experiment or a run directory is known to be good; shows what came out."""

import argparse
import datetime
import json
import os
import sys
from collections.abc import Iterable, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from specdec_bench.archive import RunDirectory, provenance
from specdec_bench.archive.layout import LOG
from specdec_bench.archive.sweep_plan import find_runs
from specdec_bench.config.schema import AUTO, NO_BASELINE, Order
from specdec_bench.errors import ArchiveError, ConfigError, NotComparableError, SpecDecBenchError
from specdec_bench.records import Manifest
from specdec_bench.report import check as checking
from specdec_bench.report.plan import plan_table
from specdec_bench.report.progress import RunProgress
from specdec_bench.report.table import dataset_warnings, print_summary
from specdec_bench.report.text import literal
from specdec_bench.runner import held_log
from specdec_bench.runner import replay as replaying
from specdec_bench.runner.cell import Cell, encoded_summary, mark_interrupted, run_cell, samples_of
from specdec_bench.sweep.archived import check_archived
from specdec_bench.sweep.claims import claim
from specdec_bench.sweep.directory import SweepDirectory
from specdec_bench.sweep.landing import check_unused
from specdec_bench.sweep.objective import Direction, figure
from specdec_bench.sweep.plan import PlannedCell, in_running_order, num_engine_starts
from specdec_bench.unused import describe

if TYPE_CHECKING:
    from specdec_bench.metrics.summary import Samples


def run_and_show(cell: Cell, run_dir: Path, *, prints: bool = True, draws: bool = True) -> RunDirectory:
    """Runs the cell, then prints its table and its verdict and draws its plots; of a failed run, what there is.

    Args:
        cell: checked.
        run_dir: where it is archived.
        prints: whether the terminal is this cell's, and not that of several which run at once.
        draws: False in a sweep, which has plots of its own: those of a cell take longer than all else around it.

    Raises:
        SpecDecBenchError: as the run ended.
    """
    try:
        with RunProgress(disable=not prints) as progress:
            run = run_cell(cell, run_dir, progress.update)
    except SpecDecBenchError:
        run = RunDirectory(run_dir)
        if run.summary_path.is_file() and run.summary()["requests"]["finished"]:
            show(run, prints=prints, draws=draws)
        raise
    show(run, prints=prints, draws=draws)
    if prints:
        show_verdict(run)
    return run


def show_plan(cells: Sequence[PlannedCell], done: Set[int], order: Order, *, shares_engines: bool) -> None:
    """Prints a sweep's cells in the order in which they would run."""
    to_run = [planned for planned in cells if planned.number not in done]
    starts = num_engine_starts(to_run, order) if shares_engines else len(to_run)
    console = _console()
    _print_unused({"name": planned.cell.config.dataset.name, **planned.cell.origin} for planned in cells)
    console.print(plan_table(in_running_order(cells, order) if shares_engines else cells, done))
    console.print(
        f"{len(cells)} cells, {len(done)} done; {len(to_run)} to run with {starts} engine starts"
        + ("" if shares_engines else " (under this launcher every job starts its own)"),
        soft_wrap=True,
    )


def archived_baselines(baseline: str, cells: Sequence[PlannedCell]) -> list[RunDirectory]:
    """Returns the plain runs of an archived run or sweep, checked to be those that the cells are compared with.

    Raises:
        ConfigError: there is none, or one that a cell needs does not match.
    """
    if plain := _plain_runs(baseline):
        check_archived(plain, cells, provenance.environment())
    return plain


def _plain_runs(baseline: str) -> list[RunDirectory]:
    """Returns the finished plain runs of an archived run or sweep, the oldest last.

    Raises:
        ConfigError: a folder is named that has none.
    """
    if baseline in (NO_BASELINE, AUTO):
        return []
    runs = sorted(find_runs(Path(baseline)).runs.values(), key=lambda run: run.manifest().created_utc, reverse=True)
    plain = [
        run for run in runs if run.manifest().config["spec"]["name"] == "none" and run.manifest().status == "finished"
    ]
    if not plain:
        raise ConfigError(f"baseline={baseline}: holds no finished plain run; use none, auto, or the folder of one")
    return plain


def show_sweep(sweep: SweepDirectory, archived: Sequence[RunDirectory]) -> None:
    """Computes a sweep's tables, writes them beside its cells, and prints and draws them."""
    from specdec_bench.report.sweep import print_sweep, write_sweep_plots, write_tables
    from specdec_bench.sweep.results import collect

    found = sweep.found()
    for line in found.not_taken:
        show_line(line)
    if not found.runs:
        return
    result = collect(list(found.runs.items()), archived)
    write_tables(result, sweep.path)
    write_sweep_plots(result, sweep.path)
    _print_unused(run.manifest().dataset for run in found.runs.values())
    print_sweep(result, _console(), path=str(sweep.path))


def _print_unused(datasets: Iterable[dict[str, Any]]) -> None:
    """Prints what several cells do not use of their datasets, each line once."""
    found = (
        (dataset.get("name"), line) for dataset in datasets for line in dataset_warnings(dataset.get("unused", {}))
    )
    for name, line in dict.fromkeys(found):
        _console().print(Text(literal(f"dataset={name}: {line}"), style="bold red"), soft_wrap=True)


def show_line(text: str) -> None:
    """Prints a line on what became of a sweep's folder."""
    _console().print(text, markup=False, soft_wrap=True)


def close_abandoned(run_dirs: Sequence[Path]) -> None:
    """Marks the runs as interrupted whose processes ended without saying how."""
    for path in run_dirs:
        if RunDirectory.is_run(path) and (run := RunDirectory.open(path)).manifest().status == "started":
            mark_interrupted(run, "its process ended without saying how")


def show_best(sweep: SweepDirectory, objective: str, better: Direction) -> None:
    """Prints which of a search's finished cells has the best objective."""
    finished = [(number, run) for number, run in sweep.runs() if run.manifest().status == "finished"]
    values = {
        number: (value, run) for number, run in finished if (value := figure(run.summary(), objective)) is not None
    }
    if values:
        value, run = (min if better == "minimize" else max)(values.values(), key=lambda pair: pair[0])
        _console().print(
            f"best {objective} of {len(values)} cells: {value:.6g} in {run.path} "
            f"({' '.join(run.manifest().overrides)})",
            markup=False,
            soft_wrap=True,
        )


def show_cell(cell: Cell) -> None:
    """Prints what would be run."""
    _print_unused([{"name": cell.config.dataset.name, **cell.origin}])
    _console().print(
        f"1 cell {cell.identity.cell_id[:12]}: {sum(len(p.turns) for p in cell.prompts)} turns of {len(cell.prompts)} "
        f"conversations x {cell.config.load.repeats} on engine={cell.config.engine.name}, spec={cell.config.spec.name}",
        markup=False,
        soft_wrap=True,
    )


def show(run: RunDirectory, samples: "Samples | None" = None, *, prints: bool = True, draws: bool = True) -> None:
    """Prints a run's table and writes its plots, unless told not to."""
    summary, label = run.summary(), _label(run.manifest())
    if draws:
        from specdec_bench.report.plots import write_plots  # a second of matplotlib: not before anything was measured

        write_plots(summary, samples or samples_of(run), run.path, label=label)
    if prints:
        print_summary(summary, _console(), title=label, path=str(run.path))


def show_verdict(run: RunDirectory) -> None:
    """Prints in one line how a finished run compares with what is expected of it, if anything is."""
    config = run.manifest().config
    if not checking.expects(config):
        return
    try:
        verdict = checking.verdict_line(checking.check(run.summary(), config), config["expected"]["relative_tolerance"])
    except NotComparableError as error:
        verdict = f"not compared: {error}"
    _console().print(f"against the expected values  {verdict}", markup=False, soft_wrap=True)


def replay(arguments: list[str]) -> int:
    """Runs an archived experiment again and says whether the same came out.

    Returns:
        0, or 1 where outputs or acceptance had to be identical and were not.
    """
    parser = argparse.ArgumentParser(prog="specdec-bench replay", description=replay.__doc__)
    parser.add_argument("run_dir", help="the archived run directory")
    parser.add_argument("--output", help="where the replay's own run directory goes (default: outputs/DATE/TIME)")
    options = parser.parse_args(arguments)
    original = RunDirectory.open(options.run_dir)
    cell = replaying.archived_cell(original, sys.argv)
    output, is_new = Path(options.output or _default_output()), options.output is None
    if not is_new:
        check_unused(output, "--output")
    with claim(output, "--output", is_new=is_new) as claimed, held_log.logging_to(claimed / LOG):
        run = run_and_show(cell, claimed)
    manifest = original.manifest()
    result = replaying.compare(original.requests(), run.requests())
    result["must_be_identical"] = replaying.must_be_identical(manifest)
    result["environment_changes"] = replaying.environment_changes(manifest, run.manifest())
    (run.path / "replay.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    console = _console()
    console.print(
        f"replay of {manifest.run_id}: {result['num_identical_outputs']} of {result['num_compared']} outputs and "
        f"{result['num_identical_acceptance']} of {result['num_compared']} acceptances identical"
        + (f"; {result['num_only_in_original']} requests were not repeated" if result["num_only_in_original"] else ""),
        markup=False,
        soft_wrap=True,
    )
    for name, (then, now) in result["environment_changes"].items():
        console.print(f"  {name}: then {then}, now {now}", markup=False, soft_wrap=True)
    if result["identical"] or not result["must_be_identical"]:
        return 0
    sys.stderr.write(f"error: greedy decoding on this engine must repeat exactly; see {run.path / 'replay.json'}\n")
    return 1


def summarize(arguments: list[str]) -> int:
    """Recomputes summary.json from the archived requests and manifest, or a sweep's tables from its cells."""
    parser = argparse.ArgumentParser(prog="specdec-bench summarize", description=summarize.__doc__)
    parser.add_argument("run_dir", help="a run directory, or a sweep's")
    parser.add_argument("--baseline", help="archived plain runs that the sweep is compared with (default: as it began)")
    options = parser.parse_args(arguments)
    sweep = SweepDirectory(Path(options.run_dir))
    if sweep.is_sweep():
        plan = sweep.plan()
        began_with = plan.baseline if plan is not None else NO_BASELINE
        show_sweep(sweep, _plain_runs(options.baseline or began_with))
        return 0
    if options.baseline is not None:
        raise ConfigError(f"--baseline={options.baseline}: {options.run_dir} is no sweep")
    run = RunDirectory.open(options.run_dir)
    before = run.summary_path.read_bytes() if run.summary_path.is_file() else None
    samples = samples_of(run)  # one pass over the requests serves summary and plots
    after = encoded_summary(samples, run.manifest())
    if after != before:
        run.write_summary(after)
    show(run, samples)
    state = "unchanged" if after == before else "written" if before is None else "CHANGED: it was another before"
    _console().print(f"summary.json: {state}", markup=False)
    return 0


def check(arguments: list[str]) -> int:
    """Compares a finished run with the figures that its experiment expects.

    Returns:
        0, or 1 where one of them is off by more than the tolerance.

    Raises:
        NotComparableError: the run is none that they can be held against; exits 2.
    """
    parser = argparse.ArgumentParser(prog="specdec-bench check", description=check.__doc__)
    parser.add_argument("run_dir", help="a finished run directory")
    try:
        run = RunDirectory.open(parser.parse_args(arguments).run_dir)
        summary, config = run.summary(), run.manifest().config
    except ArchiveError as error:
        raise NotComparableError(str(error)) from None
    verdicts = checking.check(summary, config)
    expected = config["expected"]
    _console().print(checking.verdict_table(verdicts, expected["relative_tolerance"], expected["source"]))
    off = [verdict.figure for verdict in verdicts if not verdict.passed]
    if not off:
        return 0
    sys.stderr.write(f"error: {run.path}: off in {', '.join(off)}\n")
    return 1


def prepare(arguments: list[str]) -> int:
    """Writes a dataset, checked and pinned, into one parquet file; dataset=prepared dataset.path=FILE reads it."""
    from specdec_bench.datasets import prepare as preparing

    parser = argparse.ArgumentParser(prog="specdec-bench prepare", description=prepare.__doc__)
    parser.add_argument("dataset", help="as in dataset=NAME: spec_bench, speed_bench, sharegpt, hf, ...")
    parser.add_argument("overrides", nargs="*", metavar="FIELD=VALUE", help="as for a run: dataset.path=FILE")
    parser.add_argument("--output", type=Path, help="the parquet file (default: DATASET.parquet)")
    parser.add_argument("--licence", help="of a dataset whose licence the project does not know; kept in the file")
    parser.add_argument("--accept-license", action="store_true", help="where a licence has to be accepted")
    options = parser.parse_intermixed_args(arguments)
    config = preparing.dataset_config(options.dataset, options.overrides)
    output = options.output or Path(f"{options.dataset}.parquet")
    with _console().status(f"preparing {options.dataset}") as status:
        made, changed = preparing.prepare(
            config,
            output,
            options.licence,
            options.accept_license,
            lambda count: status.update(f"{count:,} prompts") if count % 100 == 0 else None,
            lambda name: status.update(f"loading {name}"),
        )
    state = "written" if changed else "unchanged"
    lines = [
        f"{output}: {state}; {made['num_prompts']:,} prompts, {made['num_turns']:,} turns",
        f"  source    {made['source']}" + (f" at {made['revision']}" if made["revision"] else ", no known revision"),
        f"  licence   {made['licence'] or 'not stated'}",
        f"  sha256    {made['sha256']}",
        *(f"  made of   {name} at {version}" for name, version in made.get("made_of", {}).items()),
        *(f"  {count:7,}  {category}" for category, count in made["categories"].items()),
        *(f"  {line}" for line in describe(made["unused"])),
    ]
    lines = [literal(line) for line in lines]
    _console().print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    return 0


def _console() -> Console:
    """Returns where tables go: into a file or a pipe wider than the 80 columns that rich assumes of those."""
    return Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120)


def _default_output() -> Path:
    now = datetime.datetime.now()
    return Path("outputs") / now.strftime("%Y-%m-%d") / now.strftime("%H-%M-%S")


def _label(manifest: Manifest) -> str:
    """Returns what a figure is of, in one line."""
    config = manifest.config
    spec = config["spec"]["name"] + (f" K={config['spec']['draft_length']}" if "draft_length" in config["spec"] else "")
    model = "no model" if manifest.synthetic else config["model"]["name"]
    return " · ".join([spec, model, config["engine"]["name"], config["dataset"]["name"]])
