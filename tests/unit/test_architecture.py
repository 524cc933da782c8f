"""The layering that the folder names promise, and what may be imported when."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from specdec_bench.config.schema import engine

PACKAGE = Path(__file__).resolve().parents[2] / "specdec_bench"

ORDER = (
    ("errors",),
    ("records", "hub"),
    ("config",),
    ("checkpoints", "load", "metrics"),
    ("archive",),
    ("datasets", "engines"),
    ("compare",),
    ("runner",),
    ("report", "share"),
    ("sweep",),
    ("cli",),
    ("__main__",),
)
"""From the lowest level to the highest. A package imports only from levels below its own."""
LEVELS = {name: level for level, names in enumerate(ORDER) for name in names}


ENGINE_NAME = re.compile(r"""engine\.name|engine_name|\['engine'\]\['name'\]|\['engine'\]\.get\('name'\)""")


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
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in project_imports(path):
        imported = name.split(".")[1]
        if imported not in (room, "__version__"):
            assert LEVELS[imported] < module_level(path), f"{path.name} imports {name}, which is not below it"


def test_the_roof_has_no_loose_modules() -> None:
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py", "errors.py", "hub.py"}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_an_engines_own_folder_asks_which_engine_it_is(path: Path) -> None:
    if path.is_relative_to(PACKAGE / "engines"):
        return
    engines = {schema.__name__ for schema in engine.OPTIONS.values()} | {"LLMAPIEngine"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
            assert not engines & {name.id for name in ast.walk(node.args[1]) if isinstance(name, ast.Name)}
        if isinstance(node, ast.Compare | ast.Match):
            subjects = [node.subject] if isinstance(node, ast.Match) else [node.left, *node.comparators]
            for subject in map(ast.unparse, subjects):
                assert not ENGINE_NAME.search(subject), f"{path.name}:{node.lineno}: ask config/support.py instead"


def loaded_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], check=True, text=True, capture_output=True).stdout.split())


def test_the_command_line_imports_nothing_heavy() -> None:
    assert not loaded_after("import specdec_bench.cli.main, specdec_bench.runner.cell") & {
        "torch",
        "transformers",
        "pandas",
        "numpy",
        "matplotlib",
        "scipy",
    }


def test_what_every_run_ends_with_leaves_out_what_takes_longest_to_import() -> None:
    loaded = loaded_after("import specdec_bench.report.show_run, specdec_bench.report.html.page")
    assert "scipy.special" in loaded
    assert not loaded & {"scipy.stats", "scipy.optimize", "pandas"}


def test_metrics_comparisons_and_records_need_no_engine_and_no_hydra() -> None:
    rooms = [path for room in ("records", "metrics", "compare") for path in (PACKAGE / room).rglob("*.py")]
    names = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in rooms]
    loaded = loaded_after(f"import {', '.join(names)}")
    assert not loaded & {"torch", "transformers", "hydra", "omegaconf", "pandas", "matplotlib"}


def test_choosing_an_engine_imports_that_adapter_alone_and_no_engine_package() -> None:
    loaded = loaded_after(
        "from specdec_bench.config.schema.experiment import ExperimentConfig; "
        "from specdec_bench.config.schema import dataset, engine, load, model, sampling, spec; "
        "from specdec_bench.engines.base import create; "
        "create(ExperimentConfig(engine=engine.TransformersEngine(), model=model.ModelConfig(name='m', path='p'), "
        "dataset=dataset.DemoDataset(), spec=spec.NoSpec(), load=load.ClosedLoad(), "
        "sampling=sampling.SamplingConfig()))"
    )
    assert "specdec_bench.engines.transformers.adapter" in loaded
    assert not loaded & {"torch", "transformers", "specdec_bench.engines.synthetic"}
