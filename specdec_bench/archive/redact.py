"""Keeps secrets out of run directories, which are passed on, and off the terminal.

The process learns secrets once (`begin`, `learn_*`), from each source: the environment, the command line, and the
composed configuration with its interpolations. Everything written goes through `redact`, `redact_text` or
`redact_overrides`, which remove known secrets wherever they occur and however they are spelt.
"""

import copy
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TypeVar, cast

from specdec_bench.archive import files, secrets
from specdec_bench.archive.secrets import MIN_SECRET_LENGTH, NAME, REDACTED, is_harmless, is_secret_key
from specdec_bench.errors import ConfigError

T = TypeVar("T")

_OPTION = rf"--?(?P<key>{NAME})(?:(?P<sign>[=\s]).*)?"


@dataclass
class Secrets:
    """What this process knows to be secret."""

    replacements: dict[str, str] = field(default_factory=dict)
    """Every form of every secret -> its replacement."""
    variables: dict[str, str] = field(default_factory=dict)
    """Secrets from the environment -> the variable's name."""
    ambient: set[str] = field(default_factory=set)
    """Secrets that only the environment holds; other text may match one by chance."""

    def add(self, values: Iterable[str]) -> None:
        """Adds secrets in all of their forms."""
        found = {form for value in values for form in secrets.forms(value)}
        self.ambient -= found
        self.replacements |= dict.fromkeys(found, REDACTED)
        self.__dict__.pop("_pattern", None)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(map(re.escape, sorted(self.replacements, key=len, reverse=True))) or r"(?!)")

    def sub(self, text: str, replacement: Callable[[str], str] | None = None) -> str:
        """Returns the text with each secret replaced."""
        replace = replacement or self.replacements.__getitem__
        return self._pattern.sub(lambda match: replace(match[0]), text)


_known = Secrets()


def begin() -> None:
    """Forgets what was known, and learns the environment's secrets."""
    global _known  # a process runs one command line at a time
    _known = Secrets(variables=secrets.secret_variables())
    _known.add(_known.variables)
    _known.ambient = set(_known.replacements)


def known() -> Secrets:
    """Returns the secrets that this process knows, for another process to `adopt`."""
    return _known


def adopt(others: Secrets) -> None:
    """Takes over the secrets that another process knows."""
    global _known
    _known = copy.deepcopy(others)


def learn(value: object) -> None:
    """Learns the secrets of a resolved configuration."""
    _known.add(secrets.find(value))


def learn_arguments(arguments: Sequence[str]) -> None:
    """Learns the secrets of Hydra overrides or of a command line, and each whole argument that holds one."""
    _known.add(secrets.find_in_arguments(arguments))
    for raw, redacted in zip(arguments, redact_overrides(arguments), strict=True):
        _, defaults = secrets.secret_interpolations(raw)
        _known.add(defaults)
        if raw != redacted and len(raw) >= MIN_SECRET_LENGTH:
            _known.replacements[raw] = redacted
    _known.__dict__.pop("_pattern", None)


def redact_yaml_text(text: str) -> str:
    """Returns text with YAML among other lines, as Hydra prints it, without the values of secret keys."""
    kept: list[str] = []
    below: int | None = None
    for line in text.splitlines(keepends=True):
        content = line.strip()
        depth = len(line) - len(line.lstrip())
        if below is not None and (not content or depth > below or (depth == below and content.startswith("- "))):
            continue  # the value goes on
        below = None
        if given := secrets.yaml_line(line):
            key, value = given
            if value.isspace() or not is_harmless(value.strip().strip("'\"")):
                line, below = f"{key} {REDACTED}\n", depth
        kept.append(line)
    return "".join(kept)


def redact(value: T, *, refers: bool = False) -> T:
    """Returns a copy of nested dicts, lists and tuples without secrets.

    Everything under a secret key becomes "[redacted]", except what cannot be a secret: None, a bool, an empty string,
    an interpolation. A dotted key (`engine.extra_args.api_key`) is secret if any of its parts is. Known secrets are
    also removed from every other string.

    Args:
        value: what is to be archived.
        refers: whether an environment variable's value becomes `${oc.env:NAME}`, so that the run can be repeated.
    """
    return cast(T, _redact(value, refers=refers))


def _redact(value: object, *, refers: bool) -> object:
    if isinstance(value, dict):
        return {
            key: _redact_secret(item, refers=refers) if is_secret_key(key) else _redact(item, refers=refers)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return type(value)(_redact(item, refers=refers) for item in value)
    return redact_text(value, refers=refers) if isinstance(value, str) else value


def _redact_secret(value: object, *, refers: bool) -> object:
    if is_harmless(value):
        return value
    redacted = redact_text(value, refers=True) if refers and isinstance(value, str) else REDACTED
    return redacted if is_harmless(redacted) else REDACTED


def redact_text(text: str, *, refers: bool = False) -> str:
    """Returns free text, such as an engine's message, without known secrets and without what looks like one."""

    def refer(secret: str) -> str:
        return f"${{oc.env:{_known.variables[secret]}}}" if secret in _known.variables else _known.replacements[secret]

    return secrets.redact_patterns(_known.sub(text, refer if refers else None))


def redact_overrides(arguments: Sequence[str]) -> list[str]:
    """Returns Hydra overrides or a whole command line without secrets.

    Understands `a.b.api_key=xyz` with Hydra's `+`, `++` and `~`, `--api-key=xyz`, and `--api-key xyz` in one
    argument or two. If the value is a structure that mentions a secret key, all of it is redacted.
    """
    result: list[str] = []
    follows_option = False
    for argument in arguments:
        if follows_option and not argument.startswith("--"):
            result.append(REDACTED)
            follows_option = False
            continue
        option = re.fullmatch(_OPTION, argument, re.DOTALL) if secrets.may_hold_secret(argument) else None
        follows_option = option is not None and option["sign"] is None
        if option is not None and option["sign"] is not None:
            result.append(argument[: option.end("sign")] + REDACTED)
        else:
            result.append(_redact_override(argument))
    return result


def _redact_override(override: str) -> str:
    key, sign, value = override.partition("=")
    if sign and not is_harmless(value):
        if is_secret_key(key.lstrip("+~-")) or not all(map(is_harmless, secrets.find_mentioned(value))):
            return f"{key}={REDACTED}"
    elif not sign and secrets.mentions_key(override, at_start=True):
        # An HTTP header, "Authorization: Bearer xyz".
        return f"{override.partition(':')[0]}: {REDACTED}"
    return redact_text(override)


def redacted_record(
    name: str,
    level: int,
    pathname: str,
    lineno: int,
    msg: str,
    args: tuple[object, ...] | Mapping[str, object] | None,
    exc_info: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None] | None,
    func: str | None = None,
    sinfo: str | None = None,
) -> logging.LogRecord:
    """Returns a record whose message holds no secret, for whatever handler the user chooses.

    Args: those of `logging.LogRecord`.
    """
    record = logging.LogRecord(name, level, pathname, lineno, msg, args, exc_info, func, sinfo)
    try:
        message = record.getMessage()
    except (TypeError, ValueError, KeyError):  # the handler says so, where it does not end the program
        return record
    if (redacted := redact_text(message)) != message:
        record.msg, record.args = redacted, ()
    return record


class RedactingFormatter(logging.Formatter):
    """Removes secrets from log lines, including those of an exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line or, with an exception, the lines of a record."""
        return redact_text(super().format(record))


def redact_log(path: Path) -> None:
    """Redacts a text file that another program wrote, in place.

    Raises:
        OSError: it cannot be read or written.
    """
    before = path.read_text(encoding="utf-8", errors="surrogateescape")
    after = "".join(redact_text(line) for line in before.splitlines(keepends=True))
    if after != before:
        files.write_atomically(path, [after.encode("utf-8", "surrogateescape")])


def refuse_secret_folder(path: Path, overrides: Sequence[str], setting: str) -> None:
    """Refuses a folder whose name would hold a secret, such as a name made of overrides.

    Args:
        path: the folder.
        overrides: the ones that the folder may be named after.
        setting: Hydra's setting for the folder's name.

    Raises:
        ConfigError: naming the setting.
    """
    name = str(path)
    # An absolute path may hold a variable's value by chance, such as a password that is also a user's name.
    chance = _known.ambient if path.is_absolute() else set()
    secret_keys = [
        raw.partition("=")[0].lstrip("+~")
        for raw, redacted in zip(overrides, redact_overrides(overrides), strict=True)
        if raw != redacted
    ]
    if any(form in name for form in _known.replacements.keys() - chance) or any(key in name for key in secret_keys):
        raise ConfigError(
            f"{setting}: would put a secret into the folder's name, {redact_text(name)}; choose another, or leave the "
            "secret's key out by hydra.job.config.override_dirname.exclude_keys"
        )


begin()  # so that every process knows its environment's secrets from the first import on
