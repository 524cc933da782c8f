"""Finds out why a process failed: often no exception that reaches this process says it."""

import collections
import re
import signal

_HEADING = "Traceback (most recent call last):"


class LastWords:
    """Reads a process's output, line by line."""

    def __init__(self) -> None:
        self.first_failure: str | None = None
        """The exception at the end of the first traceback, which later ones follow from; None without a traceback."""
        self._lines: collections.deque[str] = collections.deque(maxlen=20)
        self._before: str | None = None
        """The prefix of each line of the traceback that is being printed: a logger's time and place."""

    @property
    def last_line(self) -> str:
        """The last line that is not blank."""
        return next((line.strip() for line in reversed(self._lines) if line.strip()), "none")

    def add(self, line: str) -> None:
        """Takes in one line."""
        self._lines.append(line)
        if self.first_failure is not None:
            return
        before, heading, _ = line.partition(_HEADING)
        if heading:
            self._before = before
        elif self._before is not None:
            # Other processes print in between; a logger's numbers change from line to line, their width does not.
            at = len(self._before)
            if _shape(line[:at]) == _shape(self._before) and line[at:].strip() and not line[at].isspace():
                self.first_failure = line[at:].strip()


def ended_how(status: int | None) -> str:
    """Returns in words how a process ended, given its status as `subprocess` has it."""
    if status is None or status >= 0:
        return f"exited with status {status}"
    hint = " (out of memory?)" if -status == signal.SIGKILL else ""
    return f"was killed by {signal.Signals(-status).name}{hint}"


def _shape(text: str) -> str:
    return re.sub(r"\d", "0", text)
