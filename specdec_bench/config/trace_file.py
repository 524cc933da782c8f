"""Reads the arrival times of load=trace.

The file is text in UTF-8. Each line holds one arrival: the seconds since the beginning, as a decimal number. Times
never decrease; equal times are arrivals at once. Empty lines and lines that begin with # are skipped.
"""

from pathlib import Path

from specdec_bench.config.schema.ranges import Range, require, shortened
from specdec_bench.errors import ConfigError

KEY = "load.path"
MOST_ARRIVALS = 100_000
"""The archive holds all of them, in the manifest and in config.yaml."""
MOST_BYTES = 64 * MOST_ARRIVALS
TIMES_S = Range(0, 604_800, "a week")


def read(path: str) -> str:
    """Returns a trace's arrival times in seconds, with single spaces between them, as the archive holds them.

    Raises:
        ConfigError: the file cannot be read, or is no trace; names the line.
    """
    file = Path(path).expanduser()
    if not file.is_file():  # reading a pipe waits for ever
        raise ConfigError(f"{KEY}={path}: no such file; pass a text file with one arrival per line, in seconds")
    try:
        size = file.stat().st_size
        require(size <= MOST_BYTES, KEY, path, f"has {size:,} bytes; a trace has at most {MOST_BYTES:,}")
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise ConfigError(f"{KEY}={path}: {reason}; pass a text file with one arrival per line, in seconds") from None
    times_s: list[float] = []
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if text and not text.startswith("#"):
            times_s.append(_time(text, f"{KEY}={path}: line {number}", times_s[-1] if times_s else 0.0))
    require(len(times_s) > 0, KEY, path, "holds no arrival; write one per line, in seconds")
    fix = f"has {len(times_s):,} arrivals; a trace has at most {MOST_ARRIVALS:,}; cut it into several"
    require(len(times_s) <= MOST_ARRIVALS, KEY, path, fix)
    return " ".join(map(repr, times_s))


def parse(arrivals: str) -> list[float]:
    """Returns the arrival times of `read`, in seconds.

    Raises:
        ConfigError: an archived text was changed.
    """
    times_s: list[float] = []
    for number, text in enumerate(arrivals.split(), start=1):
        times_s.append(_time(text, f"load.arrivals: arrival {number}", times_s[-1] if times_s else 0.0))
    return times_s


def _time(text: str, where: str, before_s: float) -> float:
    quoted = shortened(ascii(text), 40)
    try:
        # Python's float also takes 1_000, nan and digits of other scripts.
        time_s = float(text) if text.isascii() and "_" not in text else None
    except ValueError:
        time_s = None
    if time_s is None:
        raise ConfigError(f"{where}: {quoted} is not a number; write one arrival per line, in seconds")
    if not TIMES_S.least <= time_s <= TIMES_S.most:  # false of a nan
        raise ConfigError(f"{where}: {quoted} must lie in {TIMES_S}, in seconds since the beginning")
    if time_s < before_s:
        raise ConfigError(f"{where}: {quoted} is earlier than the {before_s!r} before it; sort the file")
    return time_s
