"""Checks Hydra's own settings: each is honoured, or refused by its name."""

from collections.abc import Mapping
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from omegaconf import DictConfig, OmegaConf

from specdec_bench.archive.names import HYDRA, LOG
from specdec_bench.config import own_files
from specdec_bench.errors import ConfigError
from specdec_bench.records.flatten import flatten

IGNORED = {
    "env": "it chooses nothing here",
    "help": "it changes --help alone",
    "hydra_help": "it changes --hydra-help alone",
    "hydra_logging": f"Hydra logs nothing of its own here; hydra.job_logging is for {LOG}",
    "output": "hydra.run.dir, hydra.sweep.dir and hydra.sweep.subdir say where runs land",
    "overrides": "Hydra itself fills it in",
    "runtime": "Hydra itself fills it in",
    "job.config_name": "Hydra itself fills it in",
    "job.id": "Hydra itself fills it in",
    "job.num": "Hydra itself fills it in",
    "job.override_dirname": "Hydra itself fills it in; hydra.job.config.override_dirname says how",
}
"""Settings without effect -> why, or what to do instead."""

FIXED: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "output_subdir": ((HYDRA,), f"it is always {HYDRA}, out of which secrets are taken"),
    "job.name": (("run",), f"it names the log, which is always {LOG}"),
    "job.chdir": ((None, False), "paths are relative to the folder in which you start"),
    "job.env_set": (({},), "no archive would say so; set the variable in the shell"),
    "job.env_copy": (([],), "jobs get the environment of the shell"),
}
"""Settings with fixed values -> the values, and why or what to do instead."""

OF_A_SWEEP = ("baseline", "control", "order", "objective", "tracking")
"""Fields that apply to a sweep as a whole."""

_SWEEP_WIDE = ("hydra.launcher", "hydra.sweeper", "hydra.callbacks", *OF_A_SWEEP)


def check_settings(composed: DictConfig, *, is_sweep: bool) -> None:
    """Refuses Hydra settings that would be ignored.

    Raises:
        ConfigError: naming the first.
    """
    for override in _plain(composed.hydra.overrides.hydra):
        _check_override(override, is_sweep=is_sweep)
    _check_kept(composed)
    verbose = _plain(composed.hydra.verbose)
    if not isinstance(verbose, bool | str | list):
        raise ConfigError(f"hydra.verbose={verbose}: must be true, false, or the names of loggers, as [a,b]")
    for kind, basic in (("launcher", BasicLauncher), ("sweeper", BasicSweeper)):
        _check_plugin(composed, kind, basic, is_sweep=is_sweep)


def _check_kept(composed: DictConfig) -> None:
    """Refuses settings without effect in the user's YAML, and other values of settings that are fixed."""
    for path, content in own_files.loaded().values():
        for key in flatten({"hydra": _plain(content.get("hydra")) or {}}):
            _check_ignored(f"{path}: {key}", key)
    for name, (values, instead) in FIXED.items():
        value = _plain(OmegaConf.select(composed.hydra, name))
        if value not in values:
            raise ConfigError(f"hydra.{name}={value}: is not supported; {instead}")


def _check_override(override: str, *, is_sweep: bool) -> None:
    key, _, value = override.lstrip("+~").partition("=")
    name = _check_ignored(override, key)
    if is_sweep and name == "run.dir":
        raise ConfigError(f"{override}: belongs to a single run; pass hydra.sweep.dir=DIR")
    if not is_sweep and name in ("sweep.dir", "sweep.subdir"):
        raise ConfigError(f"{override}: belongs to a sweep; pass -m, or hydra.run.dir=DIR")
    if is_sweep and name == "mode" and value != "MULTIRUN":
        raise ConfigError(f"{override}: is a single run, and -m asks for a sweep; leave out one of them")


def _check_ignored(given: str, key: str) -> str:
    """Returns the name of a setting below `hydra`, and refuses one of the `IGNORED`."""
    name = key.removeprefix("hydra").lstrip("./").partition("@")[0]
    for ignored, instead in IGNORED.items():
        if name == ignored or name.startswith(f"{ignored}."):
            raise ConfigError(f"{given}: is not supported; {instead}")
    return name


def _check_plugin(composed: DictConfig, kind: str, basic: type, *, is_sweep: bool) -> None:
    """Refuses a launcher or sweeper without effect, and parameters that the basic ones do not have."""
    settings = _plain(composed.hydra[kind])
    chosen = f"hydra/{kind}={composed.hydra.runtime.choices.get(f'hydra/{kind}')}"
    if not isinstance(settings, dict) or "_target_" not in settings:
        raise ConfigError(f"hydra.{kind}={settings}: is not a {kind}; choose one with hydra/{kind}=NAME")
    is_basic = settings["_target_"] == f"{basic.__module__}.{basic.__qualname__}"
    if not is_sweep and not is_basic:
        raise ConfigError(f"{chosen}: belongs to a sweep; pass -m, or leave it out")
    if kind == "sweeper":
        _check_params(settings, is_sweep=is_sweep)
    known = ("_target_", "max_batch_size", "params") if kind == "sweeper" else ("_target_",)
    for name, value in settings.items() if is_basic else ():
        if name not in known:
            raise ConfigError(f"hydra.{kind}.{name}={value}: {chosen} has no such parameter; leave it out")
    size = settings.get("max_batch_size")
    if is_basic and size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 1):
        raise ConfigError(f"hydra.sweeper.max_batch_size={size}: must be a whole number, at least 1, or null")


def _check_params(settings: dict[str, Any], *, is_sweep: bool) -> None:
    params = settings.get("params") or {}
    if not isinstance(params, dict):
        raise ConfigError(f"hydra.sweeper.params={params}: must be fields with their values, as {_PARAMS}")
    for key, value in params.items():
        if isinstance(value, dict):
            raise ConfigError(f"hydra.sweeper.params.{key}={value}: write the field in one, with dots, as {_PARAMS}")
        if str(key).startswith("hydra"):
            raise ConfigError(f"hydra.sweeper.params.{key}={value}: only fields of the experiment can be swept")
    if params and not is_sweep:
        raise ConfigError(
            f"hydra.sweeper.params={params}: belongs to a sweep; pass -m, or set hydra.mode: MULTIRUN beside it"
        )


_PARAMS = "'spec.draft_length: 1,3'"


def check_cell_settings(sweep: DictConfig, cell: DictConfig, number: int) -> None:
    """Refuses a cell that sets what applies to the sweep as a whole, because it would be ignored.

    Raises:
        ConfigError: naming the setting and the file or override.
    """
    _check_kept(cell)
    for name in _SWEEP_WIDE:
        own = _plain(OmegaConf.select(cell, name))
        if own == _plain(OmegaConf.select(sweep, name)):
            continue
        group = name.replace(".", "/")
        chosen = cell.hydra.runtime.choices.get(group)
        if chosen != sweep.hydra.runtime.choices.get(group):
            name, own = group, chosen
        raise ConfigError(
            f"{name}={own}: job {number} sets it through {_chosen(sweep, cell)}, but it applies to the whole sweep; "
            "set it on the command line, or in an experiment that is not swept"
        )


def _chosen(sweep: DictConfig, cell: DictConfig) -> str:
    """Returns the user's own files that a cell chooses and its sweep does not, or else the cell's overrides."""
    common = sweep.hydra.runtime.choices
    own = [f"{group}/{name}" for group, name in cell.hydra.runtime.choices.items() if common.get(group) != name]
    files = [str(own_files.loaded()[name][0]) for name in own if name in own_files.loaded()]
    return " and ".join(files) or " ".join(_plain(cell.hydra.overrides.task))


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=False) if OmegaConf.is_config(value) else value
