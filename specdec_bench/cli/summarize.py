"""`summarize`: computes a run's summary or a sweep's tables again."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from specdec_bench.archive import RunDirectory
from specdec_bench.archive.names import AA
from specdec_bench.cli.arguments import Parser, open_run
from specdec_bench.config.schema.experiment import NO_BASELINE
from specdec_bench.errors import ArchiveInputError, ConfigError
from specdec_bench.report.console import console
from specdec_bench.report.run_table import number
from specdec_bench.report.show_run import show_run
from specdec_bench.runner.o200k import load_token_counter, write_aa
from specdec_bench.runner.resummarize import has_other_definitions, resummarize
from specdec_bench.sweep.baselines import baseline_runs
from specdec_bench.sweep.directory import SweepDirectory
from specdec_bench.sweep.show import show_sweep


def summarize(arguments: list[str]) -> int:
    """Recomputes summary.json from the archived requests and manifest, or a sweep's tables from its cells."""
    parser = Parser(prog="specdec-bench summarize", description=summarize.__doc__)
    parser.add_argument("run_dir", help="a run directory, or a sweep's")
    parser.add_argument("--baseline", help="archived plain runs that the sweep is compared with (default: as it began)")
    parser.add_argument("--aa", action="store_true", help=f"also writes {AA}: rates in tokens of tiktoken's o200k_base")
    options = parser.parse_args(arguments)
    count_tokens = load_token_counter() if options.aa else None
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
        _write_aa([run for _, run in sweep.runs()], count_tokens)
        return 0
    if options.baseline is not None:
        raise ConfigError(f"--baseline={options.baseline}: {options.run_dir} is not a sweep's folder")
    run = open_run(options.run_dir)
    samples, changes = resummarize(run)  # one pass over the requests serves summary and plots
    show_run(run, samples)
    for change in changes:
        console().print(f"summary.json: {change}", markup=False, soft_wrap=True)
    _write_aa([run], count_tokens)
    return 0


def _write_aa(runs: Sequence[RunDirectory], count_tokens: Callable[[str], int] | None) -> None:
    """Writes and prints the rates in tokens of o200k_base, if they were asked for."""
    if count_tokens is None:
        return
    for run in runs:
        timing = write_aa(run, count_tokens)
        speed = timing.aa_output_tps_per_request.p50
        console().print(
            f"{run.path / AA}: o200k_base tokens/s: {number(speed, 1)} per request (median), "
            f"{number(timing.aa_output_tps, 1)} in all; {number(timing.aa_tokens_per_token, 3)} for each output token",
            markup=False,
            soft_wrap=True,
        )


def _resummarize_cells(sweep: SweepDirectory) -> None:
    """Recomputes summaries that another release wrote by other definitions, and prints the differences."""
    changed: Counter[str] = Counter()
    for _, run in sweep.runs():
        if has_other_definitions(run):
            changed.update(resummarize(run)[1])
    for change, count in changed.items():
        console().print(f"summary.json of {count} cells: {change}", markup=False, soft_wrap=True)
