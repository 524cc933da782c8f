"""Which requests met the stated objectives."""

from collections import Counter
from collections.abc import Mapping

from specdec_bench.metrics.timing import RequestTimes
from specdec_bench.records.json_types import Json
from specdec_bench.records.summary import Goodput

OBJECTIVES = ("ttft_ms", "tpot_ms", "e2e_ms")


def stated_objectives(config: Mapping[str, Json]) -> dict[str, float]:
    """Returns the objectives of an archived experiment, in ms by name; those that are null are left out."""
    slo = config.get("slo")
    stated = slo if isinstance(slo, Mapping) else {}
    return {name: float(value) for name in OBJECTIVES if isinstance(value := stated.get(name), int | float)}


def missed_objectives(times: RequestTimes | None, objectives: Mapping[str, float]) -> list[str]:
    """Returns the objectives that a finished request missed.

    TTFT and end-to-end time begin when the request was due. A request whose tokens came in one chunk has no TPOT and
    meets that objective.

    Args:
        times: of the request; None if it received no token, which misses TTFT and end-to-end time.
        objectives: by name, in ms.
    """
    if times is None:
        return [name for name in objectives if name != "tpot_ms"]
    measured = {"ttft_ms": times.ttft_from_schedule_ms, "tpot_ms": times.tpot_ms, "e2e_ms": times.e2e_from_schedule_ms}
    return [name for name, limit in objectives.items() if (value := measured[name]) is not None and value > limit]


class ObjectiveCounts:
    """Counts the requests that met every objective, and those that missed each."""

    def __init__(self, objectives: Mapping[str, float]) -> None:
        self._objectives = dict(objectives)
        self._num_within = self._num_finished = self._num_failed = 0
        self._missed: Counter[str] = Counter()

    def add_finished(self, times: RequestTimes | None) -> None:
        """Counts a finished request of the measured window."""
        missed = missed_objectives(times, self._objectives)
        self._num_finished += 1
        self._num_within += not missed
        self._missed.update(missed)

    def add_failed(self) -> None:
        """Counts a request that failed: it met nothing, and is counted at no single objective."""
        self._num_failed += 1

    def result(self, duration_s: float | None) -> Goodput:
        """Returns the metrics; null where no objective is stated.

        Args:
            duration_s: of the measured window, as in `Throughput`.
        """
        if not self._objectives:
            return Goodput()
        num_judged = self._num_finished + self._num_failed
        num_missed = {name: self._missed[name] for name in self._objectives}
        return Goodput(
            objectives=self._objectives,
            goodput=self._num_within / duration_s if duration_s else None,
            share_within_slo=self._num_within / num_judged if num_judged else None,
            num_judged=num_judged,
            num_within=self._num_within,
            num_missed=num_missed,
            most_missed=max(num_missed, key=num_missed.__getitem__) if any(num_missed.values()) else None,
        )
