"""Reads counters from the text that servers expose at /metrics."""

import re
from collections import defaultdict
from collections.abc import Mapping

from specdec_bench.errors import EngineError

_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)", re.ASCII)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Metrics:
    """The samples of one reading."""

    def __init__(self, text: str) -> None:
        """Takes the text. Lines that are no samples are left out.

        Source: Prometheus' text format 0.0.4.
        """
        self._samples: dict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
        for line in text.splitlines():
            match = None if line.startswith("#") else _SAMPLE.match(line)
            if match is not None:
                try:
                    value = float(match[3])
                except ValueError:
                    continue
                self._samples[match[1]].append((dict(_LABEL.findall(match[2] or "")), value))

    def total(self, name: str) -> int | None:
        """Returns a metric's sum over all of its labels; None if there is none of that name."""
        samples = self._samples.get(name)
        return None if samples is None else round(sum(value for _, value in samples))

    def by_label(self, name: str, label: str) -> Mapping[str, int]:
        """Returns a metric's sums by the values of one label."""
        sums: dict[str, float] = defaultdict(float)
        for labels, value in self._samples.get(name, ()):
            if label in labels:
                sums[labels[label]] += value
        return {key: round(value) for key, value in sums.items()}


def difference(after: Metrics, before: Metrics, name: str) -> int | None:
    """Returns by how much a counter grew; None if it is missing.

    Raises:
        EngineError: it fell, so that the two readings are of two servers, or of one that was started again.
    """
    now, then = after.total(name), before.total(name)
    if (now or 0) < (then or 0):
        raise EngineError(f"the server's counter {name} fell from {then} to {now}")
    # A counter with labels appears with its first event.
    return None if now is None else now - (then or 0)
