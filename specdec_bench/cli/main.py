"""Dispatches the command line: `python run.py OVERRIDES` composes and runs an experiment; other commands have files.

It imports only what composing and refusing an experiment needs; engines, numpy and plots come later.
"""

import atexit
import gc
import importlib
import logging
import sys

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from specdec_bench.archive import redact
from specdec_bench.cli.hydra_errors import explain, is_hydras_own
from specdec_bench.cli.run import compose_and_run
from specdec_bench.config import plugins
from specdec_bench.errors import (
    BAD_INPUT,
    FAILED,
    JobFailed,
    RunInterrupted,
    SpecDecBenchError,
)
from specdec_bench.report.streams import exit_with_error, guard_streams

COMMANDS = ("capacity", "check", "compare", "export", "fetch", "prepare", "replay", "report", "summarize", "upload")
"""Those with a module of their own, which has a function of that name. Anything else is an experiment."""


@guard_streams()
def main(arguments: list[str] | None = None) -> None:
    """Runs what the arguments (default: the process's) say. Exits 0, 1 (a run failed), 2 (bad input) or 130.

    A sweep exits with the status of its first failed job.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    logging.raiseExceptions = False  # a log on a full disk is no reason for a traceback
    # Composing makes a hundred thousand objects, and nearly all of them stay. Collecting garbage among them, and once
    # more at exit, takes a quarter of the time of a refusal.
    gc.disable()
    atexit.register(gc.freeze)
    redact.begin()
    redact.learn_arguments(arguments)
    try:
        plugins.load()
        match arguments:
            case [command, *rest] if command in COMMANDS:
                gc.enable()
                # Each imports what composing an experiment does not need.
                sys.exit(getattr(importlib.import_module(f"specdec_bench.cli.{command}"), command)(rest))
            case ["import", *rest]:
                gc.enable()
                sys.exit(importlib.import_module("specdec_bench.cli.import_runs").import_runs(rest))
            case ["run", *rest]:
                compose_and_run(rest)
            case _:
                compose_and_run(arguments)
    except JobFailed as failure:
        raise SystemExit(failure.exit_status) from None
    except SpecDecBenchError as error:
        exit_with_error(error.exit_status, str(error))
    except (HydraException, OmegaConfBaseException) as error:
        exit_with_error(BAD_INPUT, explain(error, arguments))
    except (ValueError, RecursionError) as error:
        if not is_hydras_own(error):
            raise
        is_nested = isinstance(error, RecursionError)
        exit_with_error(
            BAD_INPUT, "brackets or references are nested too deeply" if is_nested else explain(error, arguments)
        )
    except OSError as error:
        exit_with_error(FAILED, f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except KeyboardInterrupt:
        exit_with_error(RunInterrupted.exit_status, "interrupted")
    finally:
        gc.enable()
