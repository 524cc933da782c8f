"""The run directory: written while a run goes on, and read back afterwards.

Importing this package loads neither pandas nor numpy, so that a measuring process need not hold them.
"""

from typing import TYPE_CHECKING

from specdec_bench.archive.layout import Response, RunDirectory
from specdec_bench.archive.writer import RequestWriter

if TYPE_CHECKING:
    from specdec_bench.archive.frame import load

__all__ = ["RequestWriter", "Response", "RunDirectory", "load"]


def __getattr__(name: str) -> object:
    """Imports `load` when it is first asked for, because it needs pandas."""
    if name == "load":
        from specdec_bench.archive.frame import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
