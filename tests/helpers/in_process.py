"""Runs the command line in the tests' own process: a refusal takes a tenth of the second that a new one needs."""

import contextlib
import gc
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from specdec_bench.cli.main import main
from tests.helpers import fork_server
from tests.helpers.command_line import CommandLine, Outcome


def run(folder: Path, *arguments: str | Path) -> Outcome:
    """Runs `run.py ARGUMENTS` in this folder, its measuring process forked, and leaves the process as it was.

    An exception that would end run.py with a traceback is raised.
    """
    stdout, stderr = io.StringIO(), io.StringIO()
    status = 0
    texts = [str(argument) for argument in arguments]
    forked = fork_server.forked_processes(fork_server.server_for(texts))
    with _restored(folder), contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr), forked:
        sys.argv = ["run.py"]
        try:
            main(texts)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return Outcome(status, stdout.getvalue(), stderr.getvalue())


@dataclass(frozen=True)
class InProcess(CommandLine):
    """run.py in the tests' own process, for what is refused before it starts another."""

    @classmethod
    def of(cls, other: CommandLine) -> "InProcess":
        """Returns the same folder, file and experiment."""
        return cls(other.folder, other.environment, other.prompts, other.timeout_s)

    def __call__(self, *arguments: str | Path, **environment: str) -> Outcome:
        assert not environment, "an environment of its own needs a process of its own"
        return run(self.folder, *arguments)


@contextlib.contextmanager
def _restored(folder: Path) -> Iterator[None]:
    """Takes back what a run sets for its whole process. Warnings are printed as in a process of its own."""
    argv, environment, loggers = sys.argv, dict(os.environ), logging.root.handlers[:]
    level, disabled, raises = logging.root.level, logging.root.manager.disable, logging.raiseExceptions
    collects = gc.isenabled()
    GlobalHydra.instance().clear()
    try:
        with contextlib.chdir(folder), warnings.catch_warnings():
            warnings.simplefilter("default")
            for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
                warnings.simplefilter("ignore", kind)
            yield
    finally:
        GlobalHydra.instance().clear()
        HydraConfig.instance().cfg = None
        sys.argv = argv
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        for handler in set(logging.root.handlers) - set(loggers):
            handler.close()
        logging.root.handlers[:] = loggers
        logging.root.setLevel(level)
        logging.disable(disabled)
        logging.raiseExceptions = raises
        (gc.enable if collects else gc.disable)()
