"""The command line: `python run.py OVERRIDES` composes and runs an experiment.

`replay`, `summarize` and `check` take a run directory instead, `prepare` a dataset. Only what is needed to
compose and refuse an experiment is imported here; engines, numpy and plots come later.
"""

import contextlib
import copy
import difflib
import functools
import os
import re
import shutil
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import hydra
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

from specdec_bench.archive.layout import HYDRA, LOG, RunDirectory
from specdec_bench.config import compose
from specdec_bench.errors import ConfigError, RunInterrupted, SpecDecBenchError

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra

    from specdec_bench.runner.cell import Cell

HERE = Path(__file__).resolve().parent
CONF = HERE / "conf" if (HERE / "conf").is_dir() else HERE.parent / "conf"
"""Inside an installed wheel, or beside the package in a checkout."""

CONFIG = "config"
MULTIRUN = "multirun.yaml"
"""What Hydra saves of a sweep, beside its cells."""

FAILED = 1
BAD_INPUT = 2


class JobFailed(Exception):  # noqa: N818  (it is no error any more: its job's error has been printed)
    """A job of a sweep failed. Hydra goes on with the next one, and raises the first of these at the end."""

    def __init__(self, exit_status: int) -> None:
        super().__init__(exit_status)
        self.exit_status = exit_status


def main(arguments: list[str] | None = None) -> None:
    """Runs what the arguments (default: the process's) say. Exits 0, 1 (a run failed), 2 (bad input) or 130.

    A sweep exits as the first of its jobs that failed.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        match arguments:
            case ["replay" | "summarize" | "check" | "prepare" as command, *rest]:
                from specdec_bench import commands  # which imports what composing an experiment does not need

                sys.exit(getattr(commands, command)(rest))
            case ["run", *rest]:
                _compose_and_run(rest)
            case _:
                _compose_and_run(arguments)
    except JobFailed as failure:
        raise SystemExit(failure.exit_status) from None
    except SpecDecBenchError as error:
        _exit(error.exit_status, str(error))
    except (HydraException, OmegaConfBaseException) as error:
        _exit(BAD_INPUT, _explain(error))
    except ValueError as error:
        if not _is_hydras_own(error):
            raise
        _exit(BAD_INPUT, _first_line(error))
    except OSError as error:
        _exit(FAILED, f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except KeyboardInterrupt:
        _exit(RunInterrupted.exit_status, "interrupted")


def _compose_and_run(arguments: list[str]) -> None:
    """Runs an experiment or a sweep.

    hydra.main would compose it twice, first only to learn hydra.mode (a fifth of a second), and would write into
    the run directory before the experiment can be refused. So it serves only the flags that run nothing.
    """
    compose.register_schemas()
    sys.argv = [sys.argv[0], *arguments]
    # Hydra then raises its errors instead of printing them over several lines.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    is_sweep = not {"-m", "--multirun"}.isdisjoint(arguments)
    overrides = [argument for argument in arguments if argument not in ("-m", "--multirun", "-r", "--run")]
    if any(override.startswith("-") for override in overrides):
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=CONFIG)(run_job)()
        return
    with initialize_config_dir(str(CONF), version_base="1.3"):
        app = GlobalHydra.instance().hydra
        assert app is not None
        if is_sweep:
            overrides.append("hydra.mode=MULTIRUN")
        composed = _composed(app, overrides)
        app.compose_config = lambda **_: composed  # type: ignore[method-assign]
        if composed.hydra.mode == RunMode.MULTIRUN:
            run_cell = functools.partial(run_job, largest_concurrency=_largest_concurrency(composed, overrides))
            with _removing_unused(Path(composed.hydra.sweep.dir)):
                app.multirun(CONFIG, run_cell, overrides)
        else:
            _run_single(app, composed, overrides)


def _composed(app: "Hydra", overrides: list[str]) -> DictConfig:
    """Returns the composed experiment or sweep, with Hydra's own settings."""
    try:
        return app.compose_config(CONFIG, overrides, RunMode.RUN)
    except ConfigCompositionException as error:
        if "--multirun" not in str(error):
            raise
        # Several values for one key: a sweep if -m was given, or if a chosen YAML sets hydra.mode.
        composed = app.compose_config(CONFIG, overrides, RunMode.MULTIRUN)
        if composed.hydra.mode != RunMode.MULTIRUN:
            raise
        return composed


def _run_single(app: "Hydra", composed: DictConfig, overrides: list[str]) -> None:
    """Runs one experiment, once all that can be checked beforehand is."""
    composed.hydra.mode = RunMode.RUN
    HydraConfig.instance().set_config(composed)
    run_dir = Path(composed.hydra.run.dir)
    if RunDirectory.is_run(run_dir):
        raise ConfigError(f"hydra.run.dir={run_dir}: already holds a run; choose another folder")
    experiment = copy.deepcopy(composed)
    with flag_override(experiment, ["struct", "readonly"], [False, False]):
        del experiment["hydra"]
    cell = _cell(experiment)

    def run(_: DictConfig) -> None:
        try:
            _run(cell)
        except SpecDecBenchError as error:
            # Not raised, for Hydra would print its own words about it.
            _exit(error.exit_status, str(error))

    with _removing_unused(run_dir):
        app.run(CONFIG, run, overrides)


def _largest_concurrency(composed: DictConfig, overrides: list[str]) -> int:
    """Returns the largest load.concurrency of a sweep; 1 if it sweeps none."""
    swept = OmegaConf.select(composed, "hydra.sweeper.params") or {}
    lines = [f"{key}={value}" for key, value in swept.items()] + overrides
    values: list[Any] = []
    for override in OverridesParser.create().parse_overrides(lines):
        if override.key_or_group == "load.concurrency":
            values += override.sweep_iterator() if override.is_sweep_override() else [override.value()]
    return max((value for value in values if isinstance(value, int)), default=1)


def run_job(composed: DictConfig, largest_concurrency: int = 1) -> None:
    """Runs one composed experiment of a sweep into Hydra's output directory.

    Args:
        composed: Hydra's tree.
        largest_concurrency: of the sweep's cells.

    Raises:
        JobFailed: the error has been printed.
    """
    hydra_config = HydraConfig.get()
    try:
        _run(_cell(composed, largest_concurrency))
    except RunInterrupted as error:
        _exit(error.exit_status, str(error))  # ends the whole sweep
    except SpecDecBenchError as error:
        is_sweep = hydra_config.mode == RunMode.MULTIRUN
        _print_error(f"job {hydra_config.job.num}: {error}" if is_sweep else str(error))
        raise JobFailed(error.exit_status) from error
    finally:
        _remove_unused(Path(hydra_config.runtime.output_dir))


def _cell(composed: DictConfig, largest_concurrency: int = 1) -> "Cell":
    from specdec_bench.runner.cell import Cell, check

    config = compose.experiment(composed, largest_concurrency)
    overrides = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    assert isinstance(overrides, list)
    return Cell(config=config, prompts=check(config), command=sys.argv, overrides=overrides)


def _run(cell: "Cell") -> None:
    """Runs a checked cell into Hydra's output directory."""
    from specdec_bench.archive.redact import redact_hydra_folder
    from specdec_bench.commands import run_and_show

    hydra_config = HydraConfig.get()
    run_dir = Path(hydra_config.runtime.output_dir)
    multirun = Path(hydra_config.sweep.dir) / MULTIRUN
    is_sweep = hydra_config.mode == RunMode.MULTIRUN and multirun.is_file()
    redact_hydra_folder(run_dir, multirun if is_sweep else None)
    run_and_show(cell, run_dir)


@contextlib.contextmanager
def _removing_unused(folder: Path) -> Iterator[None]:
    """Takes back the folder, and those above it that had to be made for it, where the block leaves nothing in them."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    finally:
        for path in made:
            _remove_unused(path)


def _remove_unused(folder: Path) -> None:
    """Removes a folder that holds nothing but what Hydra wrote before the experiment was refused."""
    if folder.is_dir() and {entry.name for entry in folder.iterdir()} <= {HYDRA, LOG, MULTIRUN}:
        shutil.rmtree(folder)


_REASONS = {
    "converted to Integer": "must be a whole number",
    "converted to Float": "must be a number",
    "not a valid bool": "must be true or false",
    "not a ListConfig": "must be a list, as in [1,2]",
    "does not support deletion": "can be set but not removed",
}
"""What OmegaConf says of a value -> what to do about it."""


def _explain(error: Exception) -> str:
    """Returns Hydra's and OmegaConf's messages of several lines as one: what, the value, what to do."""
    if isinstance(error, OverrideParseException):
        return f"{error.override}: is no override; write KEY=VALUE, in quotes where VALUE has special characters"
    text, cause = str(error), error.__cause__
    if unknown := re.search(r"Could not override '(.*)'.*\n.* use \+(.*)", text):
        return _explain_unknown(getattr(cause, "full_key", None) or unknown[1], unknown[2])
    if option := re.search(r"Could not find '([^']+)/([^'/]+)'\s*Available options in '[^']+':\s*(.*)", text, re.S):
        choices = option[3].partition("Config search path")[0].split()
        group, name = option[1], option[2]
        return f"{group}={name}: no such option; choose one of {', '.join(choices)}{_suggest(name, choices)}"
    if several := re.search(r"(?:argument|parameters) '(.*)'", text):
        return f"{several[1]}: several values; pass -m to run each of them, or write a list as [a,b]"
    reason = _first_line(cause or error)
    if wrong := re.match(r"Error merging override (.*)", text):
        fixes = [fix for words, fix in _REASONS.items() if words in reason]
        return f"{wrong[1]}: {fixes[0] if fixes else reason}"
    return " ".join(text.split()) if cause is None else f"{_first_line(error)}: {reason}"


def _is_hydras_own(error: Exception) -> bool:
    """Whether Hydra itself raised it: it refuses some of what it is given by ValueError."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__", "")).startswith("hydra.")


def _explain_unknown(key: str, override: str) -> str:
    """Returns what to say about an override of a field that is not there."""
    group, _, name = key.partition(".")
    fields = compose.known_fields(key)
    if fields is None or not name:
        groups = [*sorted(entry.name for entry in CONF.iterdir() if entry.is_dir() and entry.name != "hydra"), "seed"]
        return f"{override}: no such field or group; there are {', '.join(groups)}{_suggest(group, groups)}"
    if name.split(".")[0] in fields:
        return f"{override}: the chosen {group} has no such field; --cfg job shows those that it has"
    return f"{override}: no such field; {group} has {', '.join(fields)}{_suggest(name, fields)}"


def _suggest(name: str, choices: list[str]) -> str:
    close = difflib.get_close_matches(name, choices, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _print_error(message: str) -> None:
    sys.stderr.write("error: " + " ".join(message.split()) + "\n")


def _exit(status: int, message: str) -> NoReturn:
    _print_error(message)
    raise SystemExit(status)


if __name__ == "__main__":
    main()
