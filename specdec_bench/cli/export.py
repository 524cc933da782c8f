"""`export`: writes what other tools read of an archive."""

import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable
from pathlib import Path

from specdec_bench.archive import files
from specdec_bench.cli.archives import refuse_bad_output, runs_of
from specdec_bench.cli.arguments import Parser
from specdec_bench.compare.exports.golden import golden_lengths
from specdec_bench.compare.exports.injection import sglang_settings, vllm_settings
from specdec_bench.compare.exports.measured import MeasuredAcceptance, measure
from specdec_bench.compare.exports.profile import speculation_profile
from specdec_bench.compare.pairing import read_archive
from specdec_bench.errors import ArchiveInputError, ConfigError, abbreviated
from specdec_bench.records.labels import run_labels
from specdec_bench.report.text import literal

OF_ONE_CELL: dict[str, Callable[[MeasuredAcceptance], str]] = {
    "profile": speculation_profile,
    "vllm-synthetic": vllm_settings,
    "sglang-synthetic": sglang_settings,
}
OF_REQUESTS = ("csv", "parquet")
FORMS = ("profile", "golden", "vllm-synthetic", "sglang-synthetic", *OF_REQUESTS)


def export(arguments: list[str]) -> int:
    """Writes acceptance as other tools exchange it, settings that make an engine accept as measured, or the requests.

    Returns:
        0.
    """
    parser = Parser(prog="specdec-bench export", description=_DESCRIPTION, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("dir", metavar="DIR", help="a run directory, a sweep's, or a folder of runs")
    parser.add_argument("--to", required=True, choices=FORMS, help="what is written")
    parser.add_argument("--output", metavar="FILE", help="the file (default: stdout)")
    options = parser.parse_args(arguments)
    output = None if options.output is None else Path(options.output)
    if output is not None:
        refuse_bad_output(output)
    elif options.to == "parquet" and sys.stdout.isatty():
        raise ConfigError("--to=parquet: a terminal cannot show it; give --output=FILE, or pipe it")
    folder = Path(options.dir)
    data = _tables(folder, options.to) if options.to in OF_REQUESTS else [_export(folder, options.to).encode()]
    if output is not None:
        files.write_atomically(output, data)
    elif options.to == "parquet":
        sys.stdout.buffer.writelines(data)
    else:
        for part in data:
            sys.stdout.write(part.decode())
    return 0


_DESCRIPTION = """Writes what other tools read of an archive:
  profile           speculation_profile.json (a proposal of NVIDIA's Model-Optimizer): acceptance of one cell
  golden            acceptance lengths as YAML, model -> thinking -> K, with 95% intervals
  vllm-synthetic    JSON for vLLM's --speculative-config: joint acceptance rates
  sglang-synthetic  environment variables for SGLang: the acceptance length
  csv, parquet      one row a request, as specdec_bench.archive.load has them

An acceptance length is 1 + accepted drafts / verify steps in each: it counts the bonus token."""


def _tables(folder: Path, form: str) -> Iterable[bytes]:
    runs_of(folder)  # refuses what is no archive, before pandas is imported
    from specdec_bench.archive.frame import load
    from specdec_bench.report.request_tables import csv_chunks, parquet_bytes

    frame = load(folder)
    return csv_chunks(frame) if form == "csv" else [parquet_bytes(frame)]


def _export(folder: Path, form: str) -> str:
    """Returns the acceptance of the archive's cells in this form.

    Raises:
        ArchiveInputError: it has none that can be exported, or several where the form takes one.
    """
    archive = read_archive(str(folder), runs_of(folder)[0])
    if not archive.cells:
        raise ArchiveInputError(f"{folder}: no run in it has finished; there is no acceptance to export")
    drafting = [cell for cell in archive.cells if run_labels(cell.manifests[0]).spec not in (None, "none")]
    if not drafting:
        raise ArchiveInputError(f"{folder}: no run in it drafts; export a run with speculation")
    if form != "golden" and len(drafting) > 1:
        paths = abbreviated([str(cell.runs[0].path) for cell in drafting])
        raise ArchiveInputError(
            f"{folder}: {len(drafting)} cells draft, and --to={form} takes one; give the folder of one, such as {paths}"
        )
    measured = [measure(cell) for cell in drafting]
    text = golden_lengths(measured) if form == "golden" else OF_ONE_CELL[form](measured[0])
    _warn(measured, form)
    return text


def _warn(cells: Iterable[MeasuredAcceptance], form: str) -> None:
    """Says on stderr why exported values are not what a reader may take them for."""
    for cell in cells:
        if cell.manifest.synthetic is not None:
            _print_warning(f"{cell.name}: SYNTHETIC: {cell.manifest.synthetic}")
        if not form.endswith("-synthetic"):
            continue
        length, whole = cell.length.value, 1 + sum(cell.joint_rates())
        if length is not None and abs(whole - length) > 1e-9:
            _print_warning(
                f"{cell.name}: some steps proposed fewer than {cell.draft_length} drafts; the acceptance length is "
                f"{length:.4g} with them, and {whole:.4g} in an engine that always proposes {cell.draft_length}"
            )


def _print_warning(text: str) -> None:
    sys.stderr.write(f"warning: {literal(text)}\n")
