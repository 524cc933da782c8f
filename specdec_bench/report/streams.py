"""All output goes through here: it is escaped and holds no secret, and a failure to print never ends the program.

`guard_streams` wraps stdout and stderr, so this also covers what Hydra, argparse and loggers print.
`console.console` returns the console for tables; `print_error` prints an error in one line.
"""

import codecs
import contextlib
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, NoReturn, TextIO

from specdec_bench.archive.redact import redact_text
from specdec_bench.report.text import literal

pass

PLAIN = "specdec_bench.plain"
"""The name of the codec error handler that spells out characters that an encoding lacks."""
_PLAIN_CHARACTERS = str.maketrans({"–": "-", "—": "-", "≥": ">=", "·": "|", "…": "...", "×": "x", "\u00a0": " "})


def _spell_plainly(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end].translate(_PLAIN_CHARACTERS)
    return text.encode("ascii", "backslashreplace").decode(), error.end


codecs.register_error(PLAIN, _spell_plainly)


class GuardedStream:
    """A stream that escapes its text, removes secrets from it, and tolerates a reader that goes away.

    Text that cannot be written is dropped: a measured run does not fail because nobody reads its table.
    """

    def __init__(self, stream: TextIO, *, is_trusted: bool = False) -> None:
        """Wraps the stream. A trusted writer escapes text itself, so its colours and cursor movements pass."""
        self._stream = stream
        self._is_trusted = is_trusted

    def __getattr__(self, name: str) -> Any:
        """Returns whatever else a stream has: `encoding`, `isatty`, `fileno`."""
        return getattr(self._stream, name)

    def trusted(self) -> "GuardedStream":
        """Returns the stream for a writer that escapes text itself."""
        return GuardedStream(self._stream, is_trusted=True)

    def write(self, text: str) -> int:
        """Writes the text, if anyone reads it; returns its length."""
        redacted = redact_text(text)
        if not self._is_trusted:
            redacted = literal(redacted, kept="\n\r\t")
        encoding = self._stream.encoding or "utf-8"
        with self._letting_go():
            self._stream.write(redacted.encode(encoding, PLAIN).decode(encoding))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes the lines."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flushes what was written, if anyone reads it."""
        with self._letting_go():
            self._stream.flush()

    @contextlib.contextmanager
    def _letting_go(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: it was closed in this process
            # Text left in its buffer goes to the null device, or else the interpreter would fail at its end.
            with contextlib.suppress(OSError, ValueError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self._stream.fileno())
                os.close(null)
                self._stream.flush()
            if isinstance(error, OSError) and not isinstance(error, BrokenPipeError) and self._stream is not sys.stderr:
                sys.stderr.write(f"warning: what was printed is not complete: {error.strerror}\n")


@contextlib.contextmanager
def guard_streams() -> Iterator[None]:
    """Guards stdout and stderr within the block, and opens those that the caller closed.

    Otherwise the next file to be opened would get a closed stream's descriptor, and with it the printed text.
    """
    with contextlib.suppress(OSError):
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(descriptor, True)
        os.close(descriptor)
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        guarded = GuardedStream(before[0] or nowhere), GuardedStream(before[1] or nowhere)
        sys.stdout, sys.stderr = guarded
        sys.excepthook = _print_traceback
        try:
            yield
        finally:
            for stream in guarded:
                stream.flush()
            sys.stdout, sys.stderr = before


def print_error(message: str) -> None:
    """Prints an error as the one line that users see."""
    sys.stderr.write(f"error: {literal(' '.join(redact_text(message).split()))}\n")


def _print_traceback(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    if sys.stderr is not None:
        GuardedStream(sys.stderr).write("".join(traceback.format_exception(kind, error, where)))


def exit_with_error(status: int, message: str) -> NoReturn:
    """Prints an error and ends the program."""
    print_error(message)
    raise SystemExit(status)
