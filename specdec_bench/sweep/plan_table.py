"""The table of a sweep that has not run yet."""

from collections.abc import Sequence, Set

from rich import box
from rich.table import Table
from rich.text import Text

from specdec_bench.archive.redact import redact_overrides
from specdec_bench.report.text import literal
from specdec_bench.sweep.plan import PlannedCell


def plan_table(cells: Sequence[PlannedCell], done: Set[int]) -> Table:
    """Returns the cells in the given order, with the engine that each runs on and whether it is done."""
    table = Table(box=box.SIMPLE_HEAD)
    for header in ("job", "cell", "engine", "", "overrides"):
        table.add_column(header, overflow="fold", no_wrap=header != "overrides")
    engines: dict[str, int] = {}
    for planned in cells:
        engine = engines.setdefault(planned.engine_key, len(engines) + 1)
        state = "done" if planned.number in done else "" if planned.role == "asked" else planned.role
        table.add_row(
            str(planned.number),
            planned.cell.identity.cell_id[:12],
            f"#{engine}",
            state,
            Text(literal(" ".join(redact_overrides(list(planned.overrides))))),
        )
    return table
