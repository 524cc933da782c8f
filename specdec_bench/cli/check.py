"""`check`: compares a run with published values."""

from specdec_bench.cli.arguments import Parser, open_run
from specdec_bench.compare.published import compare_with_published, expected_of
from specdec_bench.errors import ArchiveError, NotComparableError
from specdec_bench.report.check_table import verdict_table
from specdec_bench.report.console import console
from specdec_bench.report.streams import print_error


def check(arguments: list[str]) -> int:
    """Compares a finished run with the values that its experiment expects.

    Returns:
        0, or 1 where one of them is off by more than the tolerance.

    Raises:
        NotComparableError: the run is none that they can be held against; exits 2.
    """
    parser = Parser(prog="specdec-bench check", description=check.__doc__)
    parser.add_argument("run_dir", help="a finished run directory")
    try:
        run = open_run(parser.parse_args(arguments).run_dir)
        summary, config = run.summary(), run.manifest().config
    except ArchiveError as error:
        raise NotComparableError(str(error)) from None
    verdicts = compare_with_published(summary, config)
    console().print(verdict_table(verdicts, expected_of(config).source))
    off = [verdict.metric for verdict in verdicts if not verdict.passed]
    if not off:
        return 0
    print_error(f"{run.path}: outside the tolerance in {', '.join(off)}")
    return 1
