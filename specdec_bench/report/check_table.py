"""Formats the comparison with published values for people to read."""

from collections.abc import Sequence

from rich import box
from rich.table import Table

from specdec_bench.compare.published import Verdict


def verdict_line(verdicts: Sequence[Verdict]) -> str:
    """Returns the verdict on the run: passed, or which values are off and by how much."""
    off = [
        f"{verdict.metric} " + ("undefined" if verdict.deviation is None else f"{verdict.deviation:+.1%}")
        for verdict in verdicts
        if not verdict.passed
    ]
    if off:
        return f"OFF: {', '.join(off)}"
    tolerances = dict.fromkeys(f"{verdict.tolerance:.0%}" for verdict in verdicts)
    return f"pass: {len(verdicts)} of {len(verdicts)} values within {' and '.join(tolerances)}"


def verdict_table(verdicts: Sequence[Verdict], source: str) -> Table:
    """Returns the verdicts as a table."""
    table = Table(box=box.SIMPLE_HEAD, title="against the expected values", caption=source)
    table.add_column("metric")
    for header in ("expected", "measured", "off by", "tolerance", "verdict"):
        table.add_column(header, justify="right", no_wrap=True)
    for metric, expected, measured, deviation, tolerance, passed in verdicts:
        table.add_row(
            metric,
            f"{expected:.4f}",
            "–" if measured is None else f"{measured:.4f}",
            "–" if deviation is None else f"{deviation:+.1%}",
            f"{tolerance:.0%}",
            "pass" if passed else "OFF",
        )
    return table
