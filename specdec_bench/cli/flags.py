"""Parses an experiment's command line: overrides, Hydra's flags and the project's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from hydra._internal.utils import get_args_parser

from specdec_bench.config.schema.ranges import MOST_CHARACTERS, shortened
from specdec_bench.errors import ConfigError

DRY_RUN = "--dry-run"
RESUME = "resume="
SEARCH_PATH = "hydra.searchpath="
NOT_TAKEN = {
    "config_path": "pass --config-dir=DIR for YAML of your own",
    "config_name": "choose experiment=NAME, from --config-dir=DIR if it is of your own",
    "experimental_rerun": "specdec-bench replay RUN_DIR runs an archived run again",
    "resolve": "goes with --cfg",
    "package": "goes with --cfg",
}
"""Hydra flags that would be ignored, and what to do instead."""


@dataclass(frozen=True, kw_only=True)
class CommandLine:
    """What the command line asks for."""

    overrides: list[str]
    resume: str | None
    """The sweep to resume: its folder, or `latest`."""
    is_sweep: bool
    is_dry_run: bool
    shows_help: bool
    runs_nothing: bool
    """Whether a Hydra flag asks for the configuration or the like instead of a run."""
    config_dir: str | None


def parse(arguments: Sequence[str]) -> CommandLine:
    """Returns what the arguments say.

    Raises:
        ConfigError: a flag is unknown, or would be ignored.
    """
    _refuse_unreadable(arguments)
    resume = next((a.removeprefix(RESUME) for a in reversed(arguments) if a.startswith(RESUME)), None)
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise ConfigError(f"{message}; --help shows overrides and flags, --hydra-help Hydra's own")

    parser.error = refuse  # type: ignore[method-assign]
    flags = parser.parse_intermixed_args([a for a in arguments if a != DRY_RUN and not a.startswith(RESUME)])
    runs_nothing = bool(flags.hydra_help or flags.cfg or flags.info or flags.shell_completion)
    overrides: list[str] = flags.overrides
    if not runs_nothing and not flags.help:
        for name, instead in NOT_TAKEN.items():
            if getattr(flags, name):
                raise ConfigError(f"--{name.replace('_', '-')}: is not supported; {instead}")
        if flags.config_dir is not None:
            overrides = [*overrides, _search_path(flags.config_dir, overrides)]
    return CommandLine(
        overrides=overrides,
        resume=resume,
        is_sweep=resume is not None or flags.multirun,
        is_dry_run=DRY_RUN in arguments,
        shows_help=flags.help,
        runs_nothing=runs_nothing,
        config_dir=flags.config_dir,
    )


def _refuse_unreadable(arguments: Sequence[str]) -> None:
    """Refuses arguments that take Hydra's parser minutes (its time is quadratic) or that no archive can hold.

    Raises:
        ConfigError: an argument is too long, or not UTF-8.
    """
    for argument in arguments:
        name = shortened(ascii(argument)[1:-1])
        if len(argument) > MOST_CHARACTERS:
            fix = f"an argument has at most {MOST_CHARACTERS:,}; put it into a YAML file, and pass --config-dir=DIR"
            raise ConfigError(f"{name}: {fix}")
        if any(0xD800 <= ord(character) <= 0xDFFF for character in argument):
            raise ConfigError(f"{name}: is not UTF-8; give it in UTF-8")


def _search_path(config_dir: str, overrides: Sequence[str]) -> str:
    """Returns --config-dir as an override, so that every job and a resumed sweep have it.

    Raises:
        ConfigError: it is not a folder, or another override sets the search path too.
    """
    if not Path(config_dir).is_dir():
        raise ConfigError(f"--config-dir={config_dir}: no such folder")
    if any(override.startswith(SEARCH_PATH) for override in overrides):
        raise ConfigError(f"--config-dir={config_dir}: is an override of hydra.searchpath; leave out one of them")
    from specdec_bench.sweep import landing

    return f"{SEARCH_PATH}[{landing.quote(f'file://{Path(config_dir).absolute()}')}]"
