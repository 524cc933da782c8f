"""Turns any error that a library raises on a checkpoint's code and files into one line."""

import asyncio
import contextlib
from collections.abc import Iterator

from specdec_bench.errors import ConfigError, first_line


@contextlib.contextmanager
def one_line(what: str) -> Iterator[None]:
    """Turns any error in the block into a ConfigError of one line, which begins with `what`."""
    try:
        yield
    except (ConfigError, KeyboardInterrupt, SystemExit, asyncio.CancelledError):
        raise
    except BaseException as error:  # noqa: BLE001  (a panic of the tokenizers' Rust code is no Exception)
        raise ConfigError(f"{what}: {type(error).__name__}: {printable(error)}") from None


def printable(error: BaseException) -> str:
    """Returns the first line of an error, with the next one where it announces it, as characters that can be shown."""
    text = first_line(error)
    if text.endswith(":"):
        text = " ".join(line.strip() for line in str(error).strip().splitlines()[:2])
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
