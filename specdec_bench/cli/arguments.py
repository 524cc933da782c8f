"""The arguments of the commands that take no experiment."""

import argparse
from typing import NoReturn

from specdec_bench.archive import RunDirectory
from specdec_bench.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """A parser that reports errors in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Refuses the arguments.

        Raises:
            ConfigError: saying what was wrong with them.
        """
        raise ConfigError(f"{self.prog}: {message}; --help shows what it takes")


def open_run(path: str) -> RunDirectory:
    """Returns a run directory that the user named.

    Raises:
        ArchiveInputError: it is not a run directory, or does not say what was asked for.
    """
    run = RunDirectory.open(path)
    run.check_config()
    return run
