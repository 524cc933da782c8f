"""report.html: the template, the scripts and the data put together as one file that loads nothing.

No text of a run becomes markup. The data is JSON in which `<` is escaped, so that no text can end its element, and the
scripts show it through `textContent`. The content security policy allows the page's own scripts and styles by their
hashes and nothing else, no network and no `eval`.
"""

import base64
import contextlib
import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from specdec_bench.archive import codec, files
from specdec_bench.archive.layout import RunDirectory
from specdec_bench.archive.names import REPORT
from specdec_bench.compare.cell import SweepResult
from specdec_bench.compare.rows import collect, read_records
from specdec_bench.records.request import RequestRecord
from specdec_bench.report.html.build import Kind, build_report, thin_replies
from specdec_bench.report.html.data import Report
from specdec_bench.report.html.details import Details, make_details, read_details
from specdec_bench.report.streams import print_error

MAX_BYTES = 1_900_000
"""Of a page; replies are left out until it fits."""
MAX_REPLY_BYTES = 900_000
MAX_REPLY_BYTES_OF_CELL = 150_000
"""Of the page of a sweep's cell, of which there are many."""
FOLDER = Path(__file__).resolve().parent
SCRIPTS = ("vendor/uPlot.iife.min.js", "dom.js", "charts.js", "inspector.js", "page.js")
STYLES = ("vendor/uPlot.min.css", "page.css")

logger = logging.getLogger(__name__)


def render(report: Report, *, max_reply_bytes: int = MAX_REPLY_BYTES) -> bytes:
    """Returns the page. It has at most `MAX_BYTES`, unless the metrics of very many cells alone have more."""
    others = len(_fill_in(thin_replies(report, 0)))
    budget = min(max(MAX_BYTES - others, 0), max_reply_bytes)
    return _fill_in(thin_replies(report, budget))


def _fill_in(report: Report) -> bytes:
    data = codec.encode_line(report).replace(b"<", b"\\u003c").strip()
    return _template().replace(b"@DATA@", data, 1)


@cache
def _template() -> bytes:
    """Returns the page without its data."""
    scripts = [_read(name) for name in SCRIPTS]
    styles = [_read(name) for name in STYLES]
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src {' '.join(map(_hash, scripts))}",
            f"style-src {' '.join(map(_hash, styles))}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    page = _read("page.html")
    page = page.replace("@POLICY@", policy, 1)
    page = page.replace("@STYLES@", "\n".join(f"<style>{style}</style>" for style in styles), 1)
    page = page.replace("@SCRIPTS@", "\n".join(f"<script>{script}</script>" for script in scripts), 1)
    return page.encode()


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Returns the expression by which a policy allows one inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def write_report(
    result: SweepResult,
    runs: Mapping[int, RunDirectory],
    path: Path,
    *,
    kind: Kind,
    root: Path,
    details: Mapping[int, Details],
    max_reply_bytes: int = MAX_REPLY_BYTES,
) -> Path:
    """Writes the page of these runs and returns its path.

    Args:
        result: of these runs.
        runs: by job number.
        path: of the page.
        kind: what the page is of.
        root: the folder that it is of, which folders are named relative to.
        details: of the same runs.
        max_reply_bytes: how much of the page the replies may take.

    Raises:
        ArchiveError: a run cannot be read, or the page cannot be written.
    """
    report = build_report(result, runs, details, root=root, kind=kind)
    files.write_atomically(path, [render(report, max_reply_bytes=max_reply_bytes)])
    return path


def collect_with_details(
    runs: Mapping[int, RunDirectory], archived: Iterable[RunDirectory] = ()
) -> tuple[SweepResult, dict[int, Details]]:
    """Returns the results of runs, and the details of those whose requests were read for them.

    A run's requests are read once for both. Details that cannot be made are left out: the results do without.

    Args:
        runs: by job number.
        archived: plain runs to compare with, if there are none among them.
    """
    details: dict[int, Details] = {}

    def read(job: int, run: RunDirectory) -> Sequence[RequestRecord]:
        records = read_records(job, run)
        with contextlib.suppress(Exception):  # whoever writes the page meets it again, and says so
            details[job] = make_details(run, records)
        return records

    return collect(list(runs.items()), archived, read), details


def write_run_report(run: RunDirectory, records: Sequence[RequestRecord] | None = None) -> None:
    """Writes a run's page into its folder. If it cannot be written, says so: the run itself is complete.

    Args:
        run: finished or not.
        records: its requests, if they were read already.
    """
    try:
        found = read_records(0, run) if records is None else records
        result, details = collect([(0, run)], reader=lambda *_: found), {0: make_details(run, found)}
        write_report(result, {0: run}, run.path / REPORT, kind="run", root=run.path, details=details)
    except Exception as error:  # noqa: BLE001  (whatever is wrong with the page, the run's metrics are not)
        _tell(run.path, error)


def write_sweep_report(
    result: SweepResult, runs: Mapping[int, RunDirectory], known: Mapping[int, Details], folder: Path
) -> None:
    """Writes a sweep's page into its folder, and a page of each cell into the cell's.

    If one cannot be written, says so: the sweep itself is complete.

    Args:
        result: of the runs.
        runs: by job number.
        known: of `collect_with_details`; the other runs' details are read here.
        folder: the sweep's.
    """
    try:
        details = {job: known.get(job) or read_details(run) for job, run in runs.items()}
        for job, run in runs.items():
            write_report(
                _alone(result, job),
                {job: run},
                run.path / REPORT,
                kind="run",
                root=run.path,
                details={job: details[job]},
                max_reply_bytes=MAX_REPLY_BYTES_OF_CELL,
            )
        write_report(result, runs, folder / REPORT, kind="sweep", root=folder, details=details)
    except Exception as error:  # noqa: BLE001  (whatever is wrong with the page, the sweep's metrics are not)
        _tell(folder, error)


def _alone(result: SweepResult, job: int) -> SweepResult:
    """Returns the results of one cell of a sweep, which keeps its speedup over the sweep's plain cell."""
    compared = result.comparisons.get(str(job))
    return SweepResult(
        rows=[row for row in result.rows if row["job"] == job],
        replicates=[],
        comparisons={} if compared is None else {str(job): compared},
        recommendations=[],
        varying_fields=result.varying_fields,
        loads=result.loads,
    )


def _tell(folder: Path, error: Exception) -> None:
    logger.debug("no %s", REPORT, exc_info=error)
    print_error(f"{folder}: {REPORT} was not written: {error or type(error).__name__}; specdec-bench report makes it")
