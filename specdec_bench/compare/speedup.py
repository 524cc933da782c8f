"""How much faster a speculative run was than the plain one, and how certain that is.

Turns and repeats of one prompt are not independent, so whole conversations are drawn: all requests of one
prompt stay together, on both sides. If cells were run several times (replicates), the run is a unit as well.
"""

from array import array
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np

from specdec_bench.compare.intervals import (
    CONFIDENCE,
    MIN_REPEATS,
    around,
    holm,
    log_margin,
    log_margin_of_runs,
    no_interval,
    p_value_of_ratio,
    ratio_of_means,
    ratio_of_rates,
    widen,
)
from specdec_bench.metrics.arrays import Floats
from specdec_bench.metrics.timing import NS_PER_S, RequestTimes, request_times
from specdec_bench.records.interval import Interval
from specdec_bench.records.request import Record, RequestRecord

Key = tuple[str, int, int]
"""Prompt, turn, repeat: pairs a request with its counterpart in another run."""
PooledKey = tuple[int, str, int, int]
"""`Key` with the number of the run in front."""
MIN_RUNS = 3
"""Fewer runs of a cell do not show how whole runs differ."""
TimeMetric = Literal["tpot_ms", "e2e_ms"]
"""The time of a request that a speedup compares."""


class Speedups(Record, frozen=True, kw_only=True):
    """How much faster a speculative cell is than its plain one."""

    num_runs: int
    """Of each side."""
    num_pairs: int
    """Requests that finished on both sides."""
    num_left_out: int
    """Requests that did not finish on both."""
    num_conversations: int
    speedup_tpot: Interval
    speedup_e2e: Interval
    speedup_throughput: Interval


class RunTimes:
    """The data that a run's speed is computed from, collected request by request."""

    def __init__(self, records: Iterable[RequestRecord] = ()) -> None:
        self.requests: dict[Key, RequestTimes] = {}
        """Those that finished."""
        self.unfinished: set[Key] = set()
        self._sent = array("q")
        self._at, self._tokens, self._repeat = array("q"), array("q"), array("q")
        for record in records:
            self.add(record)

    def add(self, record: RequestRecord) -> None:
        """Adds one request, unless it belongs to the warm-up."""
        if record.phase != "measure":
            return
        key = (record.prompt_id, record.turn, record.repeat)
        times = request_times(record)
        if record.error is not None or record.sent_ns is None or times is None:
            self.unfinished.add(key)
            return
        self.requests[key] = times
        self._sent.append(record.sent_ns)
        self._at.extend([step.received_ns for step in record.steps])
        self._tokens.extend([step.num_tokens for step in record.steps])
        self._repeat.extend([record.repeat] * len(record.steps))

    def totals(self) -> tuple[int, float] | None:
        """Returns output tokens and seconds, from the first request sent to the last token received."""
        seconds = (max(self._at) - min(self._sent)) / NS_PER_S if self._sent else 0
        return (sum(self._tokens), seconds) if seconds else None

    def repeats(self) -> tuple[Floats, Floats] | None:
        """Returns tokens and seconds of each repeat of the dataset; None if these cannot be separated.

        The window of a repeat ends when its last token was received, and the next begins there, so that the windows
        add up to the run in `totals`.
        """
        if not self._sent:
            return None
        at, repeat = np.asarray(self._at), np.asarray(self._repeat)
        ends = [int(at[repeat == number].max()) for number in np.unique(repeat)]
        seconds = np.diff([min(self._sent), *ends]) / NS_PER_S
        if (seconds <= 0).any():
            return None
        # The token that ends a window is still in it.
        window = np.searchsorted(ends, at, side="left")
        tokens = np.bincount(window, weights=np.asarray(self._tokens), minlength=len(ends)).astype(np.float64)
        return tokens, seconds


def speedup(baseline: Sequence[RunTimes], speculative: Sequence[RunTimes]) -> Speedups:
    """Returns the speedups of a speculative cell over its plain one.

    `speedup_tpot` and `speedup_e2e` are the mean over conversations in the plain runs divided by that in the
    speculative ones; a conversation's own value is the mean over its requests that finished on both sides.
    `speedup_throughput` divides output tokens per second. Each has a 95% interval, which is null for a
    single conversation or, for throughput, a single run with fewer than 5 repeats. See `paired_ratio` and
    `_throughput`.

    Args:
        baseline: the runs of the plain cell: one, or several replicates.
        speculative: as many runs of the speculative cell, in the same order.
    """
    plain, other = pooled(baseline), pooled(speculative)
    common = sorted(plain.keys() & other.keys())
    unfinished = {(n, *key) for runs in (baseline, speculative) for n, run in enumerate(runs) for key in run.unfinished}
    return Speedups(
        num_runs=len(baseline),
        num_pairs=len(common),
        num_left_out=len((plain.keys() | other.keys() | unfinished) - set(common)),
        num_conversations=len(set(map(_conversation, common))),
        speedup_tpot=paired_ratio(plain, other, common, "tpot_ms"),
        speedup_e2e=paired_ratio(plain, other, common, "e2e_ms"),
        speedup_throughput=_throughput(baseline, speculative),
    )


def pooled(runs: Sequence[RunTimes]) -> dict[PooledKey, RequestTimes]:
    """Returns the finished requests of several runs of one cell."""
    return {(number, *key): times for number, run in enumerate(runs) for key, times in run.requests.items()}


def paired_ratio(
    numerator: Mapping[PooledKey, RequestTimes],
    denominator: Mapping[PooledKey, RequestTimes],
    keys: Iterable[PooledKey],
    metric: TimeMetric,
) -> Interval:
    """Returns the ratio of two cells' means of a metric over conversations, with its 95% interval.

    Conversations, drawn in pairs, show how much prompts differ (`ratio_of_means`). Runs of the same cells show how much
    the machine's speed varies (`log_margin_of_runs`), and this interval is added (`widen`). With a single run, its
    repeats are used instead if both sides have at least 5; differences between whole runs are then not included.

    Args:
        numerator: one cell's requests.
        denominator: the other's.
        keys: of the requests that finished on both sides.
        metric: which of their times.
    """
    pairs = _pairs(numerator, denominator, keys, metric)
    ratio = ratio_of_means(*_means(pairs, _conversation))
    above, below = _means(pairs, _run)
    if len(above) > 1:
        return widen(ratio, log_margin_of_runs(above / below))
    above, below = _means(pairs, _repeat)
    if len(above) < MIN_REPEATS:
        return ratio
    variances = [above.var(ddof=1) / above.mean() ** 2, below.var(ddof=1) / below.mean() ** 2]
    return widen(ratio, log_margin(variances, len(above)))


def _pairs(
    one: Mapping[PooledKey, RequestTimes],
    other: Mapping[PooledKey, RequestTimes],
    keys: Iterable[PooledKey],
    metric: TimeMetric,
) -> dict[PooledKey, tuple[float, float]]:
    """Returns both sides' values of the metric, for the requests that have both."""
    both = {key: (getattr(one[key], metric), getattr(other[key], metric)) for key in keys}
    return {key: values for key, values in both.items() if None not in values}


def _run(key: PooledKey) -> int:
    return key[0]


def _conversation(key: PooledKey) -> str:
    return key[1]


def _repeat(key: PooledKey) -> int:
    return key[3]


def _means(
    pairs: Mapping[PooledKey, tuple[float, float]], unit: Callable[[PooledKey], Hashable]
) -> tuple[Floats, Floats]:
    """Returns the means of both sides over the requests of each unit."""
    groups: dict[Hashable, list[tuple[float, float]]] = defaultdict(list)
    for key, values in pairs.items():
        groups[unit(key)].append(values)
    means = np.array([np.mean(values, axis=0) for values in groups.values()]).reshape(-1, 2)
    return means[:, 0], means[:, 1]


def _throughput(baseline: Sequence[RunTimes], speculative: Sequence[RunTimes]) -> Interval:
    """Returns the ratio of total tokens over total seconds, with the interval over runs or a single run's repeats."""
    plain = [totals for run in baseline if (totals := run.totals())]
    other = [totals for run in speculative if (totals := run.totals())]
    if len(plain) < len(baseline) or len(other) < len(speculative):
        return no_interval(None)
    (plain_tokens, plain_s), (tokens, seconds) = np.array(plain, dtype=float).T, np.array(other, dtype=float).T
    value = float(tokens.sum() / seconds.sum() / (plain_tokens.sum() / plain_s.sum()))
    if len(plain) > 1:
        margin = log_margin_of_runs((tokens / seconds) / (plain_tokens / plain_s))
        return around(value, margin)
    plain_repeats, repeats = baseline[0].repeats(), speculative[0].repeats()
    if plain_repeats is None or repeats is None or min(len(plain_repeats[0]), len(repeats[0])) < MIN_REPEATS:
        return no_interval(value)
    # Keep the value of the whole run; the repeats add up to it.
    return msgspec.structs.replace(ratio_of_rates(repeats, plain_repeats), value=value)


def ideal_speedup(acceptance_length: float, draft_length: int, cost_ratio: float) -> float:
    """Returns acceptance_length / (1 + K x c): the speedup of an engine without overhead.

    Args:
        acceptance_length: tokens per decode step.
        draft_length: K.
        cost_ratio: c, time of one draft step over time of one target step.

    Source: Leviathan et al., arXiv 2211.17192.
    """
    return acceptance_length / (1 + draft_length * cost_ratio)


class NotJudged(Record, frozen=True, kw_only=True):
    """Why the fastest candidate cannot be determined."""

    not_judged: str


class Advice(Record, frozen=True, kw_only=True):
    """Which candidate is the fastest, if any is."""

    not_judged: None = None
    num_runs: int
    num_conversations: int
    best: str
    """The candidate with the smallest mean TPOT."""
    runner_up: str
    over_runner_up: Interval
    """Mean TPOT of the runner-up over that of the best, with its own interval."""
    p_values: dict[str, float]
    """The p-value of each other candidate, corrected for their number."""
    tied: tuple[str, ...]
    """Candidates that cannot be distinguished from the best. The best is the fastest only if there are none."""


def recommend(baseline: Sequence[RunTimes], candidates: Mapping[str, Sequence[RunTimes]]) -> Advice | NotJudged:
    """Returns whether one candidate is the fastest, by mean TPOT over conversations.

    The fastest must beat every other candidate at 5% (`p_value_of_ratio`, Holm-corrected), with at least `MIN_RUNS`
    runs of each: a single run does not show differences between processes, however often it repeats its prompts. All
    candidates are judged on the requests that finished in all of them.

    Args:
        baseline: runs of the plain cell, which is a candidate too.
        candidates: as many runs of each speculative cell, by name.
    """
    cells = {name: pooled(runs) for name, runs in {"none": baseline, **candidates}.items()}
    common = sorted(set.intersection(*map(set, cells.values())))
    common = [key for key in common if all(cell[key].tpot_ms is not None for cell in cells.values())]
    conversations = set(map(_conversation, common))
    if len(baseline) < MIN_RUNS:
        few = "single runs" if len(baseline) < 2 else f"{len(baseline)} runs of each, of at least {MIN_RUNS}"
        return NotJudged(not_judged=few)
    if len(set(map(_run, common))) < len(baseline):
        return NotJudged(not_judged="no request finished in every run")
    if len(conversations) < 2:
        return NotJudged(not_judged="a single conversation")
    means = {
        name: _means(_pairs(cell, cell, common, "tpot_ms"), _conversation)[0].mean() for name, cell in cells.items()
    }
    best, *others = sorted(means, key=lambda name: float(means[name]))
    corrected = holm([_p_value(cells[name], cells[best], common) for name in others])
    p_values = dict(zip(others, corrected, strict=True))
    return Advice(
        num_runs=len(baseline),
        num_conversations=len(conversations),
        best=best,
        runner_up=others[0],
        over_runner_up=paired_ratio(cells[others[0]], cells[best], common, "tpot_ms"),
        p_values=p_values,
        tied=tuple(name for name, p_value in p_values.items() if p_value > 1 - CONFIDENCE),
    )


def _p_value(
    one: Mapping[PooledKey, RequestTimes], other: Mapping[PooledKey, RequestTimes], keys: Iterable[PooledKey]
) -> float:
    pairs = _pairs(one, other, keys, "tpot_ms")
    return p_value_of_ratio(_means(pairs, _conversation), _means(pairs, _run))
