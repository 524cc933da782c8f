"""The command line: `python run.py OVERRIDES` composes and runs an experiment.

`replay` and `summarize` take a run directory instead. Only what is needed to compose and refuse an
experiment is imported here; engines, numpy and plots come later.
"""

import difflib
import os
import re
import shutil
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from specdec_bench.archive.layout import HYDRA, LOG, RunDirectory
from specdec_bench.config import compose
from specdec_bench.errors import RunInterrupted, SpecDecBenchError

HERE = Path(__file__).resolve().parent
CONF = HERE / "conf" if (HERE / "conf").is_dir() else HERE.parent / "conf"
"""Inside an installed wheel, or beside the package in a checkout."""

BAD_INPUT = 2


def main(arguments: list[str] | None = None) -> None:
    """Runs what the arguments (default: the process's) say. Exits 0, 1 (a run failed), 2 (bad input) or 130."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        match arguments:
            case ["replay" | "summarize" as command, *rest]:
                from specdec_bench import commands  # only these read archives

                sys.exit(getattr(commands, command)(rest))
            case ["run", *rest]:
                _compose_and_run(rest)
            case _:
                _compose_and_run(arguments)
    except SpecDecBenchError as error:
        _exit(error.exit_status, str(error))
    except HydraException as error:
        _exit(BAD_INPUT, _explain(error))
    except OmegaConfBaseException as error:
        _exit(BAD_INPUT, _explain(error))
    except KeyboardInterrupt:
        _exit(RunInterrupted.exit_status, "interrupted before anything was measured")


def _compose_and_run(arguments: list[str]) -> None:
    compose.register_schemas()
    sys.argv = [sys.argv[0], *arguments]
    # Hydra then raises its errors instead of printing them over several lines.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(run_experiment)()


def run_experiment(composed: DictConfig) -> None:
    """Runs one composed experiment into Hydra's output directory.

    A single run ends the process with its exit status; a job of a sweep raises, so that Hydra counts it as
    failed and goes on with the next.
    """
    hydra_config = HydraConfig.get()
    run_dir = Path(hydra_config.runtime.output_dir)
    try:
        _run_experiment(composed, run_dir, list(hydra_config.overrides.task))
    except SpecDecBenchError as error:
        if not RunDirectory.is_run(run_dir):
            _remove_unused(run_dir)
        if hydra_config.mode == RunMode.MULTIRUN and not isinstance(error, RunInterrupted):
            _print_error(f"job {hydra_config.job.num}: {error}")
            raise
        _exit(error.exit_status, str(error))


def _run_experiment(composed: DictConfig, run_dir: Path, overrides: list[str]) -> None:
    from specdec_bench.runner.cell import Cell, check

    config = compose.experiment(composed)
    cell = Cell(config=config, prompts=check(config), command=sys.argv, overrides=overrides)
    from specdec_bench.commands import run_and_show

    run_and_show(cell, run_dir)


def _remove_unused(run_dir: Path) -> None:
    """Removes the folder that Hydra made for an experiment that was then refused, if nothing else is in it."""
    if run_dir.is_dir() and {entry.name for entry in run_dir.iterdir()} <= {HYDRA, LOG}:
        shutil.rmtree(run_dir)


def _explain(error: Exception) -> str:
    """Returns Hydra's and OmegaConf's messages of several lines as one: what, the value, what to do."""
    chain: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        chain.append(str(cause))
        cause = cause.__cause__
    text = "\n".join(chain)
    if unknown := re.search(r"Could not override '([\w.@/]+)'", text):
        return _explain_unknown(unknown[1])
    if option := re.search(r"Could not find '([^']+)/([^'/]+)'\s*Available options in '[^']+':\s*(.*)", text, re.S):
        choices = option[3].partition("Config search path")[0].split()
        group, name = option[1], option[2]
        return f"{group}={name}: no such option; choose one of {', '.join(choices)}{_suggest(name, choices)}"
    if wrong := re.search(r"(Value '.*' .*could not be converted.*|.*is not a valid.*)", text):
        key = re.search(r"full_key: (\S+)", text)
        return f"{key[1] if key else 'configuration'}: {wrong[1].strip()}"
    lines = [line.strip() for line in chain[0].splitlines() if line.strip()]
    return " ".join(lines[:3]) or type(error).__name__


def _explain_unknown(key: str) -> str:
    """Returns what to say about an override of a field that is not there."""
    group, _, name = key.partition(".")
    fields = compose.known_fields(key)
    if fields is None or not name:
        groups = [*sorted(entry.name for entry in CONF.iterdir() if entry.is_dir() and entry.name != "hydra"), "seed"]
        return f"{key}: no such field or group; there are {', '.join(groups)}{_suggest(group, groups)}"
    if name.split(".")[0] in fields:
        return f"{key}: the chosen {group} has no such field; see --cfg job"
    return f"{key}: no such field; {group} has {', '.join(fields)}{_suggest(name, fields)}"


def _suggest(name: str, choices: list[str]) -> str:
    close = difflib.get_close_matches(name, choices, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _print_error(message: str) -> None:
    sys.stderr.write("error: " + " ".join(message.split()) + "\n")


def _exit(status: int, message: str) -> None:
    _print_error(message)
    raise SystemExit(status)


if __name__ == "__main__":
    main()
