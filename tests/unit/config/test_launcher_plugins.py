import subprocess
import sys
from pathlib import Path

SETUP = """
from hydra.core.plugins import Plugins
from specdec_bench.config import launcher_plugins

def imported():
    return sorted({name.split(".")[1] for name in sys.modules if name.startswith("hydra_plugins.")})

def found(*names):
    return sorted(plugin.__name__ for plugin in Plugins.instance().discover() if plugin.__name__ in names)

launcher_plugins.put_off()
"""


def printed(code: str, *folders: Path) -> list[str]:
    """Returns the lines that a process of its own prints; Hydra keeps one set of plugins a process."""
    extend = "".join(f"sys.path.insert(0, {str(folder)!r})\n" for folder in folders)
    script = f"import sys\n{extend}{SETUP}{code}"
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.splitlines()


def test_launchers_and_sweepers_are_imported_only_when_asked_for() -> None:
    lines = printed(
        "print(imported())\n"
        "print(launcher_plugins.import_put_off(), imported())\n"
        "print(found('JoblibLauncher', 'OptunaSweeper'))\n"
        "print(launcher_plugins.import_put_off())\n"
    )
    installed = "['hydra_joblib_launcher', 'hydra_optuna_sweeper', 'hydra_ray_launcher', 'hydra_submitit_launcher']"
    assert lines == ["[]", f"True {installed}", "['JoblibLauncher', 'OptunaSweeper']", "False"]


def test_no_plugin_is_put_off_beside_one_that_may_add_a_search_path(tmp_path: Path) -> None:
    package = tmp_path / "hydra_plugins" / "toy"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "search.py").write_text(
        "from hydra.plugins.search_path_plugin import SearchPathPlugin\n"
        "class Toy(SearchPathPlugin):\n"
        "    def manipulate_search_path(self, search_path): pass\n"
    )
    assert printed("print(found('JoblibLauncher', 'Toy'))\n", tmp_path) == ["['JoblibLauncher', 'Toy']"]
