"""The run directory: written while a run goes on, and read back afterwards.

Importing this package loads none of its modules: a measuring process does not need pandas, and refusing an experiment
does not need the code that reads and writes runs.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from specdec_bench.archive.frame import load
    from specdec_bench.archive.layout import Response, RunDirectory
    from specdec_bench.archive.writer import RequestWriter

__all__ = ["RequestWriter", "Response", "RunDirectory", "load"]

_MODULES = {"RequestWriter": "writer", "Response": "layout", "RunDirectory": "layout", "load": "frame"}


def __getattr__(name: str) -> object:
    """Imports a name's module when it is first asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
