"""A row of a sweep's tables, and its values by type."""

from specdec_bench.records.json_types import Scalar

Row = dict[str, Scalar]
"""The values of one cell, or of one cell's runs together, by column."""


def number_in(row: Row, column: str) -> float | None:
    """Returns a number; None if the row lacks it."""
    value = row.get(column)
    return value if isinstance(value, int | float) else None


def integer_in(row: Row, column: str) -> int | None:
    """Returns an integer; None if the row lacks it."""
    value = row.get(column)
    return value if isinstance(value, int) else None


def text_in(row: Row, column: str) -> str | None:
    """Returns a text; None if the row lacks it, or has an empty one."""
    value = row.get(column)
    return value if isinstance(value, str) and value else None


def job_of(row: Row) -> int:
    """Returns the number of the row's cell, which every row has."""
    job = row["job"]
    assert isinstance(job, int)
    return job
