"""`report`: makes report.html of any archives."""

import os
from pathlib import Path

from specdec_bench.archive import RunDirectory
from specdec_bench.archive.names import REPORT
from specdec_bench.cli.archives import refuse_bad_output, runs_of
from specdec_bench.cli.arguments import Parser
from specdec_bench.report.console import console
from specdec_bench.report.html.details import read_details
from specdec_bench.report.html.page import collect_with_details, write_report
from specdec_bench.sweep.directory import SweepDirectory


def report(arguments: list[str]) -> int:
    """Writes one page of runs, sweeps or folders of them: verdict, plots, tables, outputs, replies step by step."""
    parser = Parser(prog="specdec-bench report", description=report.__doc__)
    parser.add_argument("dirs", nargs="+", metavar="DIR", help="a run directory, a sweep's, or a folder of them")
    parser.add_argument(
        "--output", metavar="FILE", help=f"the page (default: DIR/{REPORT}, or {REPORT} here for several DIR)"
    )
    options = parser.parse_args(arguments)
    dirs = [Path(name) for name in options.dirs]
    if options.output is not None:
        refuse_bad_output(Path(options.output))
    found: dict[Path, RunDirectory] = {}
    archived: list[RunDirectory] = []
    for folder in dirs:
        runs, baselines = runs_of(folder)
        found |= {run.path.resolve(): run for run in runs}
        archived += baselines
    runs_by_job = dict(enumerate(found.values()))
    is_sweep = len(dirs) == 1 and SweepDirectory(dirs[0]).is_sweep()
    if is_sweep:
        runs_by_job = dict(SweepDirectory(dirs[0]).runs())  # under the sweep's own job numbers
    is_run = len(dirs) == 1 and RunDirectory.is_run(dirs[0])
    result, known = collect_with_details(runs_by_job, archived)
    path = write_report(
        result,
        runs_by_job,
        Path(options.output) if options.output else (dirs[0] / REPORT if len(dirs) == 1 else Path(REPORT)),
        kind="run" if is_run else "sweep" if is_sweep else "archives",
        root=dirs[0] if len(dirs) == 1 else Path(os.path.commonpath([folder.resolve() for folder in dirs])),
        details={job: known.get(job) or read_details(run) for job, run in runs_by_job.items()},
    )
    console().print(f"report  {path}", markup=False, soft_wrap=True)
    return 0
