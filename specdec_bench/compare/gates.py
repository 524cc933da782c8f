"""Conditions under which a comparison fails: `acceptance_length<-2%`."""

import re

from specdec_bench.compare.columns import METRICS
from specdec_bench.errors import ConfigError
from specdec_bench.records.interval import Interval
from specdec_bench.records.request import Record

_FORM = re.compile(r"\s*(\w+)\s*([<>])\s*([+-]?\d+(?:\.\d+)?)\s*%\s*", re.ASCII)


class Gate(Record, frozen=True, kw_only=True):
    """Fails if a metric has changed by more than a threshold."""

    text: str
    """As the user gave it."""
    metric: str
    """A column of the sweep's table."""
    is_fall: bool
    """Whether it looks for a fall; otherwise for a rise."""
    limit: float
    """The ratio beyond which it fails: 0.98 for a fall by 2%."""

    def is_beyond(self, ratio: Interval) -> bool:
        """Whether the whole interval lies beyond the limit."""
        if ratio.low is None or ratio.high is None:
            return False
        return ratio.high < self.limit if self.is_fall else ratio.low > self.limit


def parse_gate(text: str) -> Gate:
    """Returns the condition that a text states.

    Raises:
        ConfigError: it has another form, names no metric, or would fail when nothing changed.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise ConfigError(f"--fail-if={text}: give METRIC<-PERCENT% or METRIC>PERCENT%, such as acceptance_length<-2%")
    name, sign, percent = found[1], found[2], float(found[3])
    metric = column_of(name)
    if metric is None:
        raise ConfigError(f"--fail-if={text}: no metric {name}; there are {', '.join(METRICS)}")
    if (sign == "<" and percent > 0) or (sign == ">" and percent < 0):
        raise ConfigError(f"--fail-if={text}: would fail when nothing changed; use a fall <-N% or a rise >N%")
    if percent <= -100:
        raise ConfigError(f"--fail-if={text}: nothing falls by 100% or more; give less")
    return Gate(text=text, metric=metric, is_fall=sign == "<", limit=1 + percent / 100)


def column_of(name: str) -> str | None:
    """Returns the column of a metric, named in full (`tpot_ms_mean`) or without its statistic (`tpot_ms`)."""
    if name in METRICS:
        return name
    starting = [
        column for column in METRICS if column.startswith(f"{name}_") and METRICS[column].path[-2:-1] == (name,)
    ]
    return starting[0] if len(starting) == 1 else None
