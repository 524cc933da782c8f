"""Composes Hydra's tree from the command line's overrides and those that a resumed sweep began with."""

import contextlib
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from specdec_bench.archive.hydra_files import learn_composed
from specdec_bench.archive.secrets import REDACTED
from specdec_bench.cli.hydra_errors import ends_in, is_hydras_own
from specdec_bench.config import compose, launcher_plugins, own_files
from specdec_bench.config.compose import CONF, CONFIG
from specdec_bench.config.schema.experiment import NO_BASELINE, Order
from specdec_bench.errors import ConfigError, SpecDecBenchError, first_line
from specdec_bench.sweep.plan import override_key, unknown_key

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra

MULTIRUN_MODE = "hydra.mode=MULTIRUN"


@contextlib.contextmanager
def composed_tree(overrides: list[str]) -> Iterator[tuple["Hydra", DictConfig]]:
    """Gives Hydra and the composed experiment or sweep. Hydra stays initialized within the block.

    Raises:
        HydraException, OmegaConfBaseException, ConfigError: see `compose_all`.
    """
    launcher_plugins.put_off()
    own_files.register()
    compose.register_schemas()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        app = GlobalHydra.instance().hydra
        assert app is not None
        composed = compose_all(app, overrides)
        learn_composed(composed)
        yield app, composed


def refuse_fields_of_a_sweep(composed: DictConfig, instead: str) -> None:
    """Refuses settings that only a sweep has.

    Args:
        composed: what is no sweep.
        instead: what to do, or why, for the message.

    Raises:
        ConfigError: naming the first.
    """
    for name in ("baseline", "control", "order"):
        if composed[name] not in (NO_BASELINE, False, Order.engines):
            raise ConfigError(f"{name}={composed[name]}: belongs to a sweep; {instead}")


def compose_all(app: "Hydra", overrides: list[str]) -> DictConfig:
    """Returns the composed experiment or sweep, with Hydra's own settings.

    Raises:
        HydraException, OmegaConfBaseException: an override or a file is wrong.
        ConfigError: the same, where their own error would not say so.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".* is not available")  # of a search path
            return _compose_with_plugins(app, overrides)
    except (SpecDecBenchError, HydraException, OmegaConfBaseException):
        raise
    except RecursionError as error:
        if not ends_in(error, "hydra._internal.defaults_list"):
            raise
        raise ConfigError(
            "defaults: a file chooses itself, directly or through others; leave one of them out"
        ) from None
    except UserWarning as warning:
        raise ConfigError(f"hydra.searchpath: {warning}; give existing folders, as file:///FOLDER") from None
    # Hydra and OmegaConf trip over some values instead of refusing them.
    except (AttributeError, AssertionError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, ValueError) and is_hydras_own(error):
            raise  # its message is clear enough
        reason = first_line(error) if str(error) else type(error).__name__
        raise ConfigError(f"{_first_failing(app, overrides)}: cannot be composed: {reason}; correct it") from None


def _compose_with_plugins(app: "Hydra", overrides: list[str]) -> DictConfig:
    """Composes a second time with the installed launchers and sweepers if the first time lacked one of them."""
    try:
        return _compose(app, overrides)
    except HydraException as error:
        if not re.search("hydra/(launcher|sweeper)", str(error)) or not launcher_plugins.import_put_off():
            raise
        return _compose(app, overrides)


def _compose(app: "Hydra", overrides: list[str]) -> DictConfig:
    try:
        return app.compose_config(CONFIG, overrides, RunMode.RUN)
    except ConfigCompositionException as error:
        if "--multirun" not in str(error) and unknown_key(error) is None:
            raise
        # Several values for one key: a sweep if -m was given, or if a chosen YAML sets hydra.mode.
        composed = _compose_sweep(app, overrides)
        if composed.hydra.mode != RunMode.MULTIRUN:
            raise
        return composed


def _compose_sweep(app: "Hydra", overrides: list[str]) -> DictConfig:
    """Composes what the cells have in common.

    It has none of the swept choices, so it may lack a field that they have: `spec=none,ngram spec.ngram_max=5`. A grid
    leaves such an override to its cells, and refuses it if none of them has the field.
    """
    from specdec_bench.sweep.launch import is_grid  # needed only for a sweep

    of_cells: list[str] = []
    refused: ConfigCompositionException | None = None
    while True:
        try:
            composed = app.compose_config(CONFIG, [one for one in overrides if one not in of_cells], RunMode.MULTIRUN)
        except ConfigCompositionException as error:
            key = unknown_key(error)
            unknown = [one for one in overrides if override_key(one) == key and one not in of_cells]
            if not unknown:
                raise
            of_cells += unknown
            refused = refused or error
        else:
            if refused is not None and not is_grid(composed):
                raise refused
            composed.hydra.overrides.task += of_cells
            return composed


def _first_failing(app: "Hydra", overrides: Sequence[str]) -> str:
    """Returns the first override that cannot be composed together with those before it."""
    for number in range(1, len(overrides)):
        try:
            _compose(app, list(overrides[:number]))
        except Exception:  # noqa: BLE001  (whatever it is, the caller has it)
            return overrides[number - 1]
    return overrides[-1] if overrides else CONFIG


def resume_overrides(overrides: list[str], resume: str) -> list[str]:
    """Returns the overrides of a sweep to resume: those given, and for the rest those that it began with.

    If only Hydra's own settings are given, paths are relative to the folder where the sweep was started.
    """
    from specdec_bench.sweep import directory, landing, latest, launch  # needed only to resume

    folder = latest.find(resume, latest.OUTPUTS)
    for key in (landing.SWEEP_DIR, landing.SUBDIR):
        if given := [override for override in overrides if override.lstrip("+").startswith(f"{key}=")]:
            raise ConfigError(
                f"{given[0]}: resume={resume} continues the sweep in {folder} with its own settings; "
                "leave one of them out"
            )
    plan = directory.SweepDirectory(folder).plan()
    assert plan is not None
    began_with = launch.not_given_again(plan.hydra_overrides, overrides)
    given = [override for override in overrides if override != MULTIRUN_MODE]
    if all(override.startswith(("hydra.", "hydra/")) for override in given):
        began_with = [*plan.overrides, *began_with]
        if plan.working_dir and Path(plan.working_dir).is_dir() and Path.cwd() != Path(plan.working_dir):
            folder = folder.absolute()
            os.chdir(plan.working_dir)
    if secret := [override for override in began_with if REDACTED in override]:
        raise ConfigError(
            f"resume={resume}: was started with {', '.join(secret)}, and an archive keeps no secrets; give all of its "
            "overrides again, with the secret or as ${oc.env:NAME}"
        )
    return [*began_with, *overrides, f"{landing.SWEEP_DIR}={landing.quote(folder)}"]
