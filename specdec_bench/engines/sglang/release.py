"""What the installed SGLang has: `python -m specdec_bench.engines.sglang.release` writes it as one line of JSON.

A process that measures a server must not import SGLang, whose threads and memory would be in its way. It asks another.
"""

import sys
from typing import Any

import msgspec

from specdec_bench.engines.other_process import ask
from specdec_bench.engines.sglang.arguments import field_names
from specdec_bench.errors import EngineUnavailableError


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """An installed release."""

    version: str
    known: tuple[str, ...]
    """The fields of its ServerArgs."""
    algorithms: tuple[str, ...]
    """The names of its speculative algorithms."""


def import_sglang(engine: str = "sglang") -> Any:
    """Returns SGLang.

    Args:
        engine: who asks, for the message.

    Raises:
        EngineUnavailableError: it is missing, or too old.
    """
    try:
        return _import()
    except ImportError as error:
        raise _unavailable(engine, str(error)) from None


def _import() -> Any:
    import sglang
    import sglang.srt.sampling.sampling_params
    import sglang.srt.server_args
    import sglang.srt.speculative.spec_info

    return sglang


def read(sglang: Any) -> Release:
    """Returns what this SGLang has."""
    members = getattr(sglang.srt.speculative.spec_info.SpeculativeAlgorithm, "__members__", ())
    return Release(
        version=sglang.__version__,
        known=tuple(field_names(sglang.srt.server_args.ServerArgs)),
        algorithms=(*members, "NEXTN"),
    )


def read_in_another_process(engine: str) -> Release:
    """Returns what the installed SGLang has, without importing it here.

    Args:
        engine: who asks, for the message.

    Raises:
        EngineUnavailableError: it is missing, too old, or cannot be imported.
    """
    told = ask("specdec_bench.engines.sglang.release", Release)
    if isinstance(told, str):
        raise _unavailable(engine, told)
    return told


def _unavailable(engine: str, reason: str) -> EngineUnavailableError:
    return EngineUnavailableError(
        f"engine={engine} needs SGLang 0.5.11 or later ({reason}); install specdec-bench[sglang]"
    )


def main() -> None:
    """Writes what the installed SGLang has, or why it cannot be imported."""
    try:
        told: Release | str = read(_import())
    except ImportError as error:
        told = str(error)
    sys.stdout.write(msgspec.json.encode(told).decode() + "\n")


if __name__ == "__main__":
    main()
