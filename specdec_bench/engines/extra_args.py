"""Checks every key of `engine.extra_args`, which are passed through to an engine."""

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from specdec_bench.errors import ConfigError


def check_extra_args(
    extra: Mapping[str, Any],
    known: Collection[str],
    *,
    settings: Mapping[str, str],
    fixed: Mapping[str, Any],
    engine: str,
    reference: str,
) -> dict[str, Any]:
    """Returns `engine.extra_args`.

    Args:
        extra: as the user gave them.
        known: the arguments that the installed release has.
        settings: arguments that a setting of the project decides, and that setting.
        fixed: arguments whose values the project needs.
        engine: its name and release, for the message.
        reference: where its arguments are documented.

    Raises:
        ConfigError: a key that the project sets itself, or that the installed release lacks.
    """
    for name in extra:
        if name in settings:
            raise ConfigError(f"engine.extra_args.{name}: the project sets this itself; use {settings[name]}")
        if name in fixed:
            raise ConfigError(f"engine.extra_args.{name}: the project needs it as {fixed[name]!r}; leave it out")
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3)
            raise ConfigError(
                f"engine.extra_args.{name}: {engine} has no such engine argument"
                + (f"; did you mean {', '.join(close)}?" if close else f"; see {reference}")
            )
    return dict(extra)
