"""The class of `spec=custom_class`: found and identified without importing it, for it is the user's code."""

import ast
import hashlib
import importlib.util
import sys
from importlib.machinery import PathFinder
from pathlib import Path

from specdec_bench.errors import ConfigError
from specdec_bench.records.canonical import canonical_json
from specdec_bench.records.checkpoint import Checkpoint, FileIdentity

METHODS = ("propose", "load_model")
"""Those that vLLM calls."""


def check_proposer(proposer: str) -> Path:
    """Returns the file of the class's module, which defines or imports the class.

    Args:
        proposer: module.Class.

    Raises:
        ConfigError: there is no such file or class, or the class lacks a method that vLLM calls.
    """
    module, _, name = proposer.rpartition(".")
    key, file = f"spec.proposer={proposer}", _file_of(module)
    if file is None:
        raise ConfigError(
            f"{key}: no file of a module {module} is in this folder, on PYTHONPATH or in an installed package"
        )
    try:
        tree = ast.parse(file.read_bytes(), str(file))
    except (OSError, SyntaxError, ValueError) as error:
        raise ConfigError(f"{key}: {file} cannot be read: {' '.join(str(error).split())}") from None
    classes = {statement.name: statement for statement in tree.body if isinstance(statement, ast.ClassDef)}
    if name not in classes and name not in _imported(tree):
        raise ConfigError(f"{key}: {file} has no class {name}")
    if name in classes and not classes[name].bases:
        body = classes[name].body
        own = {part.name for part in body if isinstance(part, ast.FunctionDef)} | _assigned(body)
        if lacking := [method for method in METHODS if method not in own]:
            raise ConfigError(f"{key}: the class has no {lacking[0]}(); vLLM calls {' and '.join(METHODS)}")
    return file


def identify_proposer(proposer: str) -> Checkpoint:
    """Returns the manifest's entry for the class: its name, and the file of its module. What that imports is not in it.

    Raises:
        ConfigError: as `check_proposer`.
    """
    file = check_proposer(proposer)
    content = file.read_bytes()
    files = {file.name: FileIdentity(size=len(content), sha256=hashlib.sha256(content).hexdigest())}
    return Checkpoint(
        path=proposer,
        revision=None,
        commit=None,
        fingerprint=hashlib.sha256(canonical_json(files)).hexdigest(),
        files=files,
    )


def _file_of(module: str) -> Path | None:
    """Returns the source of a module, as the measuring process will find it: the working folder comes first."""
    first, *rest = module.split(".")
    try:
        found = PathFinder.find_spec(first, [str(Path.cwd()), *sys.path]) or importlib.util.find_spec(first)
    except ValueError:  # __main__
        return None
    for name in rest:  # importlib.util.find_spec would import the packages above it
        found = found and PathFinder.find_spec(name, list(found.submodule_search_locations or ()))
    if found is None or not found.has_location or found.origin is None:
        return None
    file = Path(found.origin)
    return file if file.suffix == ".py" and file.is_file() else None


def _assigned(body: list[ast.stmt]) -> set[str]:
    """Returns the names that a body assigns to."""
    assignments = [statement for statement in body if isinstance(statement, ast.Assign)]
    return {target.id for one in assignments for target in one.targets if isinstance(target, ast.Name)}


def _imported(tree: ast.Module) -> set[str]:
    """Returns the names that a module takes from others."""
    imports = [statement for statement in tree.body if isinstance(statement, ast.ImportFrom)]
    return {alias.asname or alias.name for statement in imports for alias in statement.names}
