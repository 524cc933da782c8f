"""What the installed vLLM's server can be started with, read from vLLM's source: to import it takes many seconds."""

import ast
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path

ENGINE_ARGUMENTS = "engine/arg_utils.py"
SERVER_ARGUMENTS = "entrypoints/**/cli_args.py"
"""Where releases declare the arguments that only the server has: the folder differs."""


def server_arguments() -> frozenset[str] | None:
    """Returns the names that arguments of the installed vLLM's server have in Python; None if they cannot be read."""
    found = PathFinder.find_spec("vllm")
    for folder in map(Path, (found and found.submodule_search_locations) or ()):
        files = [folder / ENGINE_ARGUMENTS, *folder.glob(SERVER_ARGUMENTS)]
        try:
            return frozenset(name for file in files for name in _declared(file))
        except (OSError, SyntaxError, ValueError):
            return None
    return None


def _declared(file: Path) -> Iterator[str]:
    """Yields the annotated attributes of a module's classes."""
    for made in ast.parse(file.read_bytes()).body:
        for line in made.body if isinstance(made, ast.ClassDef) else ():
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                yield line.target.id
