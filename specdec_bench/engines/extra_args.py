"""Checks every key of `engine.extra_args`, which are passed through to an engine."""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from specdec_bench.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ExtraArguments:
    """The arguments of an engine that `engine.extra_args` may hold: all that the project does not set itself."""

    engine: str
    """The engine's name in messages."""
    reference: str
    """Where its arguments are documented."""
    settings: Mapping[str, str]
    """Arguments that a setting of the project decides, and that setting."""
    fixed: Mapping[str, Any]
    """Arguments whose values the project needs."""

    def check(self, extra: Mapping[str, Any], known: Collection[str], release: str = "") -> dict[str, Any]:
        """Returns `engine.extra_args`, every key checked.

        Args:
            extra: as the user gave them.
            known: the arguments that the installed release has.
            release: the installed release, for the message; empty if it is not known.

        Raises:
            ConfigError: a key that the project sets itself, or that the installed release lacks.
        """
        for name in extra:
            if name in self.settings:
                raise ConfigError(f"engine.extra_args.{name}: the project sets this itself; use {self.settings[name]}")
            if name in self.fixed:
                raise ConfigError(
                    f"engine.extra_args.{name}: the project needs it as {self.fixed[name]!r}; leave it out"
                )
            if name not in known:
                close = difflib.get_close_matches(name, known, n=3)
                raise ConfigError(
                    f"engine.extra_args.{name}: {f'{self.engine} {release}'.strip()} has no such engine argument"
                    + (f"; did you mean {', '.join(close)}?" if close else f"; see {self.reference}")
                )
        return dict(extra)
