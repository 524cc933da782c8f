"""`compare`: puts archives side by side, and can fail where a metric has become worse."""

import json
import sys
from pathlib import Path

import msgspec

from specdec_bench.cli.archives import runs_of
from specdec_bench.cli.arguments import Parser
from specdec_bench.compare.columns import METRICS
from specdec_bench.compare.comparison import Comparison
from specdec_bench.compare.comparison import compare as compare_archives
from specdec_bench.compare.effects import HEADLINE
from specdec_bench.compare.gates import column_of, parse_gate
from specdec_bench.compare.pairing import read_archive
from specdec_bench.errors import BAD_INPUT, FAILED, ConfigError
from specdec_bench.report.blocks import markdown, page, print_blocks
from specdec_bench.report.comparison import blocks, table_csv
from specdec_bench.report.console import console
from specdec_bench.report.streams import print_error

FORMATS = ("table", "json", "csv", "markdown", "html")


def compare(arguments: list[str]) -> int:
    """Compares two or more archives with the first: configuration, environment, metrics with intervals, outputs.

    Returns:
        0; with --fail-if 1 if a condition holds, 2 if one cannot be judged.
    """
    parser = Parser(prog="specdec-bench compare", description=_DESCRIPTION)
    parser.add_argument("dirs", nargs="+", metavar="DIR", help="a run directory, a sweep's, or a folder of runs")
    parser.add_argument("--format", choices=FORMATS, default="table", help="what is written to stdout (default: table)")
    parser.add_argument(
        "--metric",
        action="append",
        metavar="NAME",
        help=f"a metric to compare; repeatable (default: {', '.join(HEADLINE)})",
    )
    parser.add_argument(
        "--fail-if",
        action="append",
        default=[],
        metavar="CONDITION",
        help="such as 'acceptance_length<-2%%' or 'tpot_ms>5%%': exits 1 if the whole 95%% interval of the metric's "
        "ratio lies beyond that change, 2 if this cannot be judged; repeatable",
    )
    options = parser.parse_args(arguments)
    if len(options.dirs) < 2:
        raise ConfigError("specdec-bench compare: give two archives or more; --help shows what it takes")
    gates = [parse_gate(text) for text in options.fail_if]
    metrics = [_metric(name) for name in options.metric] if options.metric else list(HEADLINE)
    archives = [read_archive(name, runs_of(Path(name))[0]) for name in options.dirs]
    for archive in archives:
        if not archive.cells:
            raise ConfigError(f"{archive.path}: no run in it has finished; there is nothing to compare")
    comparison = compare_archives(archives, metrics, gates)
    _write(comparison, options.format)
    return _status(comparison)


_DESCRIPTION = """Compares two or more archives with the first: what differs in configuration and environment, metrics
with 95% intervals over conversations in pairs, and outputs. Runs of the same cell are its replicates; from three on
each side, differences are judged."""


def _metric(name: str) -> str:
    column = column_of(name)
    if column is None:
        raise ConfigError(f"--metric={name}: no such metric; there are {', '.join(METRICS)}")
    return column


def _write(comparison: Comparison, form: str) -> None:
    """Writes the comparison to stdout."""
    title = "Comparison"
    match form:
        case "json":
            # In ASCII, of which the stream escapes nothing.
            sys.stdout.write(json.dumps(msgspec.to_builtins(comparison), indent=2, allow_nan=False) + "\n")
        case "csv":
            sys.stdout.write(table_csv(comparison))
        case "markdown":
            sys.stdout.write(f"# {title}\n\n{markdown(blocks(comparison))}")
        case "html":
            sys.stdout.write(page(blocks(comparison), title))
        case _:
            print_blocks(blocks(comparison), console())


def _status(comparison: Comparison) -> int:
    """Returns the exit status, and says on stderr why it is not 0."""
    failed = [f"{gate.text}: {line}" for gate in comparison.gates for line in gate.failed]
    not_judged = [f"{gate.text}: {line}" for gate in comparison.gates for line in gate.not_judged]
    for line in failed:
        print_error(f"FAILED: {line}")
    for line in not_judged:
        print_error(f"NOT JUDGED: {line}")
    return FAILED if failed else BAD_INPUT if not_judged else 0
