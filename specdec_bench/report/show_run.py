"""Shows a run: its table or its line in a sweep, its plots, its verdict."""

from typing import TYPE_CHECKING

from specdec_bench.archive import RunDirectory
from specdec_bench.compare.published import compare_with_published, expects
from specdec_bench.errors import NotComparableError
from specdec_bench.records.labels import run_labels
from specdec_bench.records.manifest import Manifest, label_of_load
from specdec_bench.report.check_table import verdict_line
from specdec_bench.report.console import console
from specdec_bench.report.progress import Cells
from specdec_bench.report.run_table import print_line, print_summary
from specdec_bench.runner.cell import samples_of

if TYPE_CHECKING:
    from specdec_bench.metrics.summary import Samples


def show_run(
    run: RunDirectory,
    samples: "Samples | None" = None,
    *,
    prints: bool = True,
    draws: bool = True,
    cells: Cells | None = None,
) -> None:
    """Prints a run's table, or its line in a sweep, and writes its plots and its page, unless told not to."""
    summary, label = run.summary(), run_label(run.manifest())
    if prints and (cells is None or cells.is_verbose):
        print_summary(summary, console(), title=label, path=str(run.path))
    elif prints and cells is not None:
        load = label_of_load(run.manifest())
        in_flight = "" if load.max_in_flight is None else f" · {load.text}"
        print_line(summary, console(), title=f"{cells} · {label}{in_flight}", path=str(run.path), told=cells.told)
    if draws:
        # They take a second to import: not before anything was measured.
        from specdec_bench.report.html.page import write_run_report
        from specdec_bench.report.run_plots import write_plots

        samples = samples or samples_of(run)
        write_plots(summary, samples, run.path, label=label)
        write_run_report(run, samples.records)


def show_verdict(run: RunDirectory) -> None:
    """Prints one line that compares a finished run with its expected values, if it has any."""
    config = run.manifest().config
    if not expects(config):
        return
    try:
        verdict = verdict_line(compare_with_published(run.summary(), config))
    except NotComparableError as error:
        verdict = f"not compared: {error}"
    console().print(f"against the expected values  {verdict}", markup=False, soft_wrap=True)


def run_label(manifest: Manifest) -> str:
    """Returns one line that names the run's method, model, engine, dataset and any open load."""
    labels, load = run_labels(manifest), label_of_load(manifest)
    length = "" if labels.draft_length is None else f" K={labels.draft_lengths or labels.draft_length}"
    model = "no model" if manifest.synthetic else labels.model
    offered = [load.text] if load.max_in_flight is None and load.value is not None else []
    return " · ".join([f"{labels.spec}{length}", str(model), str(labels.engine), str(labels.dataset), *offered])
