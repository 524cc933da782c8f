"""`summarize`: computes a run's summary or a sweep's tables again."""

from collections import Counter
from pathlib import Path

from specdec_bench.cli.arguments import Parser, open_run
from specdec_bench.config.schema.experiment import NO_BASELINE
from specdec_bench.errors import ArchiveInputError, ConfigError
from specdec_bench.report.console import console
from specdec_bench.report.show_run import show_run
from specdec_bench.runner.resummarize import has_other_definitions, resummarize
from specdec_bench.sweep.baselines import baseline_runs
from specdec_bench.sweep.directory import SweepDirectory
from specdec_bench.sweep.show import show_sweep


def summarize(arguments: list[str]) -> int:
    """Recomputes summary.json from the archived requests and manifest, or a sweep's tables from its cells."""
    parser = Parser(prog="specdec-bench summarize", description=summarize.__doc__)
    parser.add_argument("run_dir", help="a run directory, or a sweep's")
    parser.add_argument("--baseline", help="archived plain runs that the sweep is compared with (default: as it began)")
    options = parser.parse_args(arguments)
    sweep = SweepDirectory(Path(options.run_dir))
    if sweep.is_sweep():
        plan = sweep.plan()
        began_with = plan.baseline if plan is not None else NO_BASELINE
        archived = baseline_runs(options.baseline or began_with)
        if not sweep.runs():
            raise ArchiveInputError(
                f"{options.run_dir}: no cell of this sweep has started; run it with resume={options.run_dir}"
            )
        show_sweep(sweep, archived)
        _resummarize_cells(sweep)
        return 0
    if options.baseline is not None:
        raise ConfigError(f"--baseline={options.baseline}: {options.run_dir} is not a sweep's folder")
    run = open_run(options.run_dir)
    samples, changes = resummarize(run)  # one pass over the requests serves summary and plots
    show_run(run, samples)
    for change in changes:
        console().print(f"summary.json: {change}", markup=False, soft_wrap=True)
    return 0


def _resummarize_cells(sweep: SweepDirectory) -> None:
    """Recomputes summaries that another release wrote by other definitions, and prints the differences."""
    changed: Counter[str] = Counter()
    for _, run in sweep.runs():
        if has_other_definitions(run):
            changed.update(resummarize(run)[1])
    for change, count in changed.items():
        console().print(f"summary.json of {count} cells: {change}", markup=False, soft_wrap=True)
