"""The exception tree. A message says what was wrong, the value received, and what to do.

SpecDecBenchError
├── ConfigError               a setting that cannot be run                       exit status 2
├── DatasetError              a dataset file that cannot be read as it should    exit status 2
├── FetchError                a model's package that cannot be downloaded        exit status 1
├── PluginError               a plugin is broken, or its metric failed           exit status 2
├── EngineUnavailableError    the engine's package is missing or lacks a method  exit status 2
├── EngineError               the engine failed while it was started or measured exit status 1
│   └── EngineDiedError       it is dead; the run ends with it                   exit status 1
├── LauncherError             a launcher could not run a sweep's jobs             exit status 1
├── ArchiveError              a run directory that a run could not write or read  exit status 1
│   └── ArchiveInputError     a folder that the user named and that is no run,   exit status 2
│                             is damaged, taken or cannot be used
├── SharingError              an archive is complete, but was not sent elsewhere  exit status 1
├── NotComparableError        a run that its expected values say nothing of      exit status 2
└── RunInterrupted            the user stopped the run                           exit status 130
"""

import contextlib
from collections.abc import Sequence


class SpecDecBenchError(Exception):
    """Any failure that is reported to the user as one line, without a traceback."""

    exit_status = 1


class ConfigError(SpecDecBenchError):
    """A setting is unknown, of the wrong type, out of range, or impossible in this combination."""

    exit_status = 2


class DatasetError(SpecDecBenchError):
    """A dataset file is missing or a line of it is not what its format says."""

    exit_status = 2


class FetchError(SpecDecBenchError):
    """A file of somebody else's could not be downloaded."""


class PluginError(SpecDecBenchError):
    """A plugin cannot be loaded, does not fit, takes a name that is there already, or fails in a metric of its own."""

    exit_status = 2


class EngineUnavailableError(SpecDecBenchError):
    """The engine is not installed, or the installed release lacks what was asked for."""

    exit_status = 2


class EngineError(SpecDecBenchError):
    """The engine failed while starting, generating or stopping."""


class EngineDiedError(EngineError):
    """The engine as a whole is dead: no further request can be sent to it."""


class LauncherError(SpecDecBenchError):
    """A launcher could not run the jobs of a sweep in other processes: sbatch refused them, say."""


class ArchiveError(SpecDecBenchError):
    """A run directory cannot be written, or its content cannot be read back."""


class ArchiveInputError(ArchiveError):
    """A folder that the user named is no run or sweep, is damaged or of a newer release, or cannot be used for one."""

    exit_status = 2


class SharingError(SpecDecBenchError):
    """An archive is complete here, but could not be sent to storage or to a tracker."""


class NotComparableError(SpecDecBenchError):
    """A run cannot be compared with the values expected of it."""

    exit_status = 2


class RunInterrupted(SpecDecBenchError):  # noqa: N818  (an interruption, as KeyboardInterrupt)
    """The user stopped the run; what was measured until then is kept."""

    exit_status = 130


class JobFailed(Exception):  # noqa: N818  (Hydra goes on with the next job, and this says how the sweep exits)
    """A job of a sweep failed."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message, exit_status)  # by which it is pickled
        self.message = message
        self.exit_status = exit_status

    def __str__(self) -> str:
        """Returns what went wrong, in one line."""
        return self.message


def first_line(error: BaseException) -> str:
    """Returns what an exception says in one line: its first, or of pydantic's, whose first only counts, the reasons."""
    reasons = getattr(error, "errors", None)
    if callable(reasons):
        with contextlib.suppress(Exception):  # whatever else has an attribute of that name
            told = [(".".join(map(str, reason["loc"])), " ".join(reason["msg"].split())) for reason in reasons()]
            return "; ".join(f"{place}: {message}" if place else message for place, message in told)
    return first_line_of(str(error)) or "no message"


def first_line_of(text: str) -> str:
    """Returns the first line of a text; empty if it has none."""
    return next(iter(text.strip().splitlines()), "")


def named(error: BaseException) -> str:
    """Returns an exception's kind and what it says, in one line: a KeyError says no more than the key."""
    return f"{type(error).__name__}: {first_line(error)}"


def abbreviated(ids: Sequence[str], most: int = 5) -> str:
    """Returns ids as a message can list them: the first few."""
    return ", ".join(ids[:most]) + (", ..." if len(ids) > most else "")


FAILED = 1


BAD_INPUT = 2
