"""The layering that the folder names promise, and what may be imported when."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "specdec_bench"

LEVELS = {
    "errors": 0,
    "records": 0,
    "unused": 0,
    "hub": 0,
    "config": 1,
    "checkpoints": 2,
    "datasets": 3,
    "engines": 3,
    "load": 3,
    "metrics": 3,
    "archive": 3,
    "runner": 4,
    "sweep": 5,
    "report": 5,
    "commands": 6,
    "job": 7,
    "composing": 8,
    "explain": 8,
    "flags": 8,
    "cli": 8,
}
"""Imports run from a higher level to a lower one, or stay within one level (archive reads metrics)."""


def module_level(path: Path) -> int:
    return LEVELS[path.relative_to(PACKAGE).parts[0].removesuffix(".py")]


def project_imports(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("specdec_bench"):
            names += [
                f"{node.module}.{alias.name}" if node.module == "specdec_bench" else node.module for alias in node.names
            ]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names if alias.name.startswith("specdec_bench")]
    return names


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    if path.parent == PACKAGE and path.stem == "__init__":
        return
    for name in project_imports(path):
        imported = name.split(".")[1]
        assert LEVELS[imported] <= module_level(path), f"{path.name} imports {name}, which is above it"


def loaded_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], check=True, text=True, capture_output=True).stdout.split())


def test_the_command_line_imports_nothing_heavy() -> None:
    assert not loaded_after("import specdec_bench.cli, specdec_bench.runner.cell") & {
        "torch",
        "transformers",
        "pandas",
        "numpy",
        "matplotlib",
        "scipy",
    }


def test_metrics_and_records_need_no_engine_and_no_hydra() -> None:
    loaded = loaded_after("import specdec_bench.metrics.summary, specdec_bench.records")
    assert not loaded & {"torch", "transformers", "hydra", "omegaconf", "pandas", "matplotlib"}


def test_choosing_an_engine_imports_that_adapter_alone_and_no_engine_package() -> None:
    loaded = loaded_after(
        "from specdec_bench.config.schema import *; from specdec_bench.engines.base import create; "
        "create(ExperimentConfig(engine=TransformersEngine(), model=ModelConfig(name='m', path='p'), "
        "dataset=DemoDataset(), spec=NoSpec(), load=ClosedLoad(), sampling=SamplingConfig()))"
    )
    assert "specdec_bench.engines.transformers" in loaded
    assert not loaded & {"torch", "transformers", "specdec_bench.engines.synthetic"}
