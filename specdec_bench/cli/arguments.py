"""The arguments of the commands that take no experiment."""

import argparse
from typing import NoReturn

from specdec_bench.archive import RunDirectory
from specdec_bench.errors import ConfigError

pass


class Parser(argparse.ArgumentParser):
    """A parser whose errors are the one line that users see, instead of the usage and a line."""

    def error(self, message: str) -> NoReturn:
        """Refuses the arguments.

        Raises:
            ConfigError: saying what was wrong with them.
        """
        raise ConfigError(f"{self.prog}: {message}; --help shows what it takes")


def open_run(path: str) -> RunDirectory:
    """Returns a run directory that the user named.

    Raises:
        ArchiveInputError: it is none, or does not say what was asked for.
    """
    run = RunDirectory.open(path)
    run.check_config()
    return run
