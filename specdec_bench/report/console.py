"""The console on which tables are printed."""

import os
import sys
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from specdec_bench.report.streams import GuardedStream
from specdec_bench.report.text import literal

WIDTH = 120
"""Columns of a file or a pipe, for which rich assumes 80."""
MIN_WIDTH = 20


class InertConsole(Console):
    """A console that escapes everything that a terminal would act on, and reads no markup."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yields the segments to print."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=literal(segment.text, kept="\n"))


def console(*, stderr: bool = False) -> InertConsole:
    """Returns the console for tables. In a file or a pipe it is wider than the 80 columns that rich assumes."""
    stream = sys.stderr if stderr else sys.stdout
    columns = os.environ.get("COLUMNS", "")
    width = max(int(columns), MIN_WIDTH) if columns.isdecimal() else None if stream.isatty() else WIDTH
    return InertConsole(
        file=stream.trusted() if isinstance(stream, GuardedStream) else stream,  # type: ignore[arg-type]
        width=width,
        markup=False,
        highlight=False,
        emoji=False,
    )
