"""The arguments of the commands that take no experiment."""

import argparse
from typing import NoReturn

from specdec_bench.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """A parser whose errors are the one line that users see, instead of the usage and a line."""

    def error(self, message: str) -> NoReturn:
        """Refuses the arguments.

        Raises:
            ConfigError: saying what was wrong with them.
        """
        raise ConfigError(f"{self.prog}: {message}; --help shows what it takes")
