"""The console on which tables are printed."""

import os
import sys
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from specdec_bench.report.streams import GuardedStream
from specdec_bench.report.text import literal

WIDTH = 120
"""Of a file or a pipe; rich assumes 80 columns of those."""
MIN_WIDTH = 20


class InertConsole(Console):
    """A console that spells out whatever a terminal would act on, in everything it is given, and reads no markup."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yields the segments of what is to be printed."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=literal(segment.text, kept="\n"))


def console(*, stderr: bool = False) -> InertConsole:
    """Returns where tables go: into a file or a pipe wider than the 80 columns that rich assumes of those."""
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
