"""Puts off importing installed Hydra plugins that add launchers and sweepers until a command needs one.

Hydra imports all plugins at each start, and those of the Ray launcher alone take a tenth of the time of a refusal.
"""

import pkgutil
from types import ModuleType
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton

ONLY_LAUNCHERS_AND_SWEEPERS = {
    "hydra_joblib_launcher",
    "hydra_optuna_sweeper",
    "hydra_ray_launcher",
    "hydra_submitit_launcher",
}
"""Packages of hydra_plugins that add nothing else. Any other may add a search path, which composing needs."""

_put_off: list[ModuleType] = []


def put_off() -> None:
    """Has Hydra find only its own plugins, if the others that are installed add only launchers and sweepers."""
    if Plugins in Singleton._instances:
        return
    scan = Plugins._scan_all_plugins

    def scan_own(modules: list[ModuleType]) -> Any:
        _put_off[:] = [module for module in modules if _can_wait(module)]
        return scan([module for module in modules if module not in _put_off])

    Plugins._scan_all_plugins = staticmethod(scan_own)  # type: ignore[method-assign]
    try:
        Plugins.instance()
    finally:
        Plugins._scan_all_plugins = staticmethod(scan)  # type: ignore[method-assign]


def import_put_off() -> bool:
    """Registers with Hydra what was put off. Returns whether anything was."""
    found, _ = Plugins._scan_all_plugins(list(_put_off))
    for plugin in found:
        Plugins.instance().register(plugin)
    was_put_off = bool(_put_off)
    _put_off.clear()
    return was_put_off


def _can_wait(module: ModuleType) -> bool:
    if module.__name__ != "hydra_plugins":
        return False
    return {found.name for found in pkgutil.iter_modules(module.__path__)} <= ONLY_LAUNCHERS_AND_SWEEPERS
