"""Plugins: datasets, engines, loads, methods and metrics of other packages.

A package declares an entry point in the group `specdec_bench.plugins` that names a `Plugin`. Its contents join the
project's own in the table of engines, in Hydra's groups and in summaries. Every process loads plugins once: the one
that measures, and a launcher's too. This module needs neither Hydra nor OmegaConf.
"""

import contextlib
import functools
import importlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from specdec_bench.config.support import ENGINES, EngineSupport
from specdec_bench.errors import PluginError, named

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from specdec_bench.records.request import RequestRecord

GROUP = "specdec_bench.plugins"
"""Of entry points."""
EXTENSIBLE = ("dataset", "engine", "load", "spec")
"""Groups in which every option has its own dataclass. To other groups a plugin can add only YAML."""


@dataclass(frozen=True, kw_only=True)
class ExtraMetric:
    """A metric of a run that only a plugin computes. summary.json records it as `extra.NAME`."""

    definition: str
    """The formula, which is archived beside the value."""
    compute: Callable[[Sequence["RequestRecord"]], float | None]
    """Takes the finished requests of the measured window, in the order in which they ended. None: undefined."""


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """What a package adds."""

    options: Mapping[str, Mapping[str, type]] = field(default_factory=dict)
    """Group -> option -> its dataclass, which derives from the group's (`EngineConfig`, ...); see `EXTENSIBLE`."""
    modules: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Group (dataset, load) -> option -> the module that implements it, by its dotted name."""
    engines: Mapping[str, EngineSupport] = field(default_factory=dict)
    """What each engine of `options` can do, and its adapter's module."""
    metrics: Mapping[str, ExtraMetric] = field(default_factory=dict)
    conf: Path | None = None
    """A folder of YAML, laid out as the project's conf/: GROUP/OPTION.yaml."""


_modules: dict[tuple[str, str], str] = {}
_PACKAGES = {"dataset": "specdec_bench.datasets", "load": "specdec_bench.load"}
METRICS: dict[str, ExtraMetric] = {}
"""Of all plugins, by name."""
FOLDERS: dict[str, Path] = {}
"""The YAML of each plugin that has some, by the plugin's name."""


def import_option(group: str, name: str) -> ModuleType:
    """Returns the module that implements an option of the groups dataset, engine and load; no other is imported."""
    if group == "engine":
        return importlib.import_module(ENGINES[name].adapter)
    return importlib.import_module(_modules.get((group, name)) or f"{_PACKAGES[group]}.{name}")


@functools.cache
def load() -> None:
    """Loads the installed plugins, once.

    Raises:
        PluginError: a plugin cannot be loaded, or declares something that already exists.
    """
    for entry_point in _entry_points():
        try:
            plugin = entry_point.load()
        except Exception as error:  # noqa: BLE001  (whatever its code raises)
            reason = f"cannot be loaded: {named(error)}; repair or uninstall it"
            raise PluginError(f"plugin {entry_point.name}: {entry_point.value} {reason}") from None
        if not isinstance(plugin, Plugin):
            reason = f"is a {type(plugin).__name__}; name a specdec_bench.config.plugins.Plugin"
            raise PluginError(f"plugin {entry_point.name}: {entry_point.value} {reason}")
        _check(entry_point.name, plugin)
        _register(entry_point.name, plugin)


def _register(name: str, plugin: Plugin) -> None:
    from specdec_bench.config.schema.experiment import OPTIONS

    for group, options in plugin.options.items():
        OPTIONS[group].update(options)
    ENGINES.update(plugin.engines)
    METRICS.update(plugin.metrics)
    for group, modules in plugin.modules.items():
        _modules.update({(group, option): module for option, module in modules.items()})
    if plugin.conf is not None:
        FOLDERS[name] = plugin.conf


def _check(name: str, plugin: Plugin) -> None:
    """Refuses a plugin that does not fit, before any of it is registered.

    Raises:
        PluginError: naming what does not fit.
    """
    # Imported here, not at the top: modules that read archives do without Hydra.
    from specdec_bench.config.compose import CONF
    from specdec_bench.config.schema.experiment import OPTIONS, ExperimentConfig

    def require(condition: bool, what: str) -> None:
        if not condition:
            raise PluginError(f"plugin {name}: {what}")

    for group, options in plugin.options.items():
        require(group in EXTENSIBLE, f"options of the group {group}; it can add some to {', '.join(EXTENSIBLE)}")
        base = ExperimentConfig.__dataclass_fields__[group].type
        assert isinstance(base, type)
        for option, schema in options.items():
            require(option not in OPTIONS[group], f"{group}={option} exists already; choose another name")
            fits = isinstance(schema, type) and issubclass(schema, base)
            require(fits, f"{group}={option}: {schema!r} must be a dataclass that derives from {base.__name__}")
    for group, modules in plugin.modules.items():
        require(group in _PACKAGES, f"modules of the group {group}; there are some of {', '.join(_PACKAGES)}")
        for option in modules:
            has_dataclass = option in plugin.options.get(group, {})
            require(has_dataclass, f"{group}={option} has a module and no dataclass; add it to options")
    own = plugin.options.get("engine", {})
    for engine in own.keys() ^ plugin.engines.keys():
        require(False, f"engine={engine} needs both a dataclass in options and a row in engines")
    for metric in plugin.metrics:
        require(metric not in METRICS, f"the metric {metric} exists already; choose another name")
    if plugin.conf is not None:
        require(plugin.conf.is_dir(), f"conf={plugin.conf}: no such folder")
        for path in plugin.conf.glob("**/*.yaml"):
            file = path.relative_to(plugin.conf)
            is_new = not any((folder / file).exists() for folder in (CONF, *FOLDERS.values()))
            require(is_new, f"{path}: {file} exists already; choose another name")


def _entry_points() -> Iterable["EntryPoint"]:
    """Returns the plugins' entry points, sorted by name.

    Importing and querying importlib.metadata takes 40 ms. A start without plugins skips it.
    """
    if not any(_mention_plugins(sys.path)):
        return ()
    from importlib.metadata import entry_points

    return sorted(entry_points(group=GROUP), key=lambda entry_point: entry_point.name)


def _mention_plugins(folders: Iterable[str]) -> Iterator[bool]:
    """Yields, for each installed distribution with entry points, whether they may include plugins."""
    for folder in folders:
        try:
            names = os.listdir(folder or ".")  # noqa: PTH208  (a third of the time)
        except OSError:  # a zip, or not there
            continue
        for name in names:
            if name.endswith((".dist-info", ".egg-info")):
                with contextlib.suppress(OSError), open(f"{folder or '.'}/{name}/entry_points.txt", "rb") as file:
                    yield GROUP.encode() in file.read()
