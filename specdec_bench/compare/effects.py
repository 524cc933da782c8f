"""How much a metric differs between two sides, how certain that is, and whether it is judged to differ.

Both sides answered the same prompts, so conversations are drawn in pairs. Runs are not paired: those of two archives
were not made in turn.
"""

from collections.abc import Collection, Sequence

import numpy as np
from scipy import special

from specdec_bench.compare.bootstrap import NUM_RESAMPLES, DrawnMedians, draw_units
from specdec_bench.compare.columns import metric_value
from specdec_bench.compare.headline import RATIOS
from specdec_bench.compare.intervals import (
    CONFIDENCE,
    MIN_REPEATS,
    around,
    log_margin,
    no_interval,
    ratio_of_rates,
    widen,
)
from specdec_bench.compare.sides import ComparedRun
from specdec_bench.compare.speedup import Key
from specdec_bench.metrics.arrays import Floats, Integers
from specdec_bench.records.interval import Interval
from specdec_bench.records.request import Record

MEDIAN = "ttft_ms_p50"
"""The metric that is a median over requests."""
RATE = "output_tps"
"""The metric that has an interval over the repeats of a single run."""
HEADLINE = (*RATIOS, MEDIAN, RATE)
"""The metrics that are compared if no others are asked for."""
ROUNDING = 1e-24
"""A squared error of a logarithm below this is rounding."""

Values = tuple[Floats, Floats]
"""One value for each run of either side."""


class Effect(Record, frozen=True, kw_only=True):
    """One metric of both sides."""

    reference: float | None
    value: float | None
    ratio: Interval
    """`value / reference`."""
    p_value: float | None = None
    """Of the ratio, if it were 1; not corrected. None if either side has a single run."""


UNDEFINED = Effect(reference=None, value=None, ratio=Interval(value=None))


class Overlap(Record, frozen=True, kw_only=True):
    """The requests that both sides have."""

    num_requests: int
    """Those that finished in every run of both sides, each counted once."""
    num_left_out: int
    """Those that did not finish in some run."""
    num_conversations: int


class Paired:
    """The requests that finished in every run of both sides."""

    def __init__(self, reference: Sequence[ComparedRun], other: Sequence[ComparedRun]) -> None:
        self.sides = (reference, other)
        runs = [*reference, *other]
        finished = [set(run.requests.keys) for run in runs]
        self.keys: list[Key] = sorted(set.intersection(*finished))
        asked = set.union(*finished, *(run.times.unfinished for run in runs))
        prompts: dict[str, int] = {}
        self.units: Integers = np.array([prompts.setdefault(key[0], len(prompts)) for key in self.keys], dtype=np.int64)
        self.repeats: Integers = np.array([key[2] for key in self.keys], dtype=np.int64)
        self.overlap = Overlap(
            num_requests=len(self.keys), num_left_out=len(asked) - len(self.keys), num_conversations=len(prompts)
        )
        rows = [_rows(run.requests.keys, self.keys) for run in runs]
        self._terms = [run.requests.terms[row] for run, row in zip(runs, rows, strict=True)]
        self._ttft_ms = [run.requests.ttft_ms[row] for run, row in zip(runs, rows, strict=True)]

    def terms(self, side: int) -> list[Floats]:
        """Returns (requests, ratios, 2) for each run of a side."""
        num = len(self.sides[0])
        return self._terms[num:] if side else self._terms[:num]

    def ttft_ms(self, side: int) -> list[Floats]:
        """Returns (requests,) for each run of a side."""
        num = len(self.sides[0])
        return self._ttft_ms[num:] if side else self._ttft_ms[:num]


def _rows(keys: Sequence[Key], wanted: Sequence[Key]) -> Integers:
    places = {key: row for row, key in enumerate(keys)}
    return np.array([places[key] for key in wanted], dtype=np.int64)


def effects(paired: Paired, names: Sequence[str], by_request: Collection[str] = ()) -> dict[str, Effect]:
    """Returns the effect on each metric, by name.

    A ratio is that of the values shown. A metric that is computed request by request has the interval of a percentile
    bootstrap over conversations, drawn in pairs, which the differences between runs widen, or, for single runs, those
    between repeats if both have at least 5 of them. Any other metric has an interval over runs. It is null without
    these.

    Args:
        paired: both sides.
        names: of the metrics, as in the sweep's table.
        by_request: metrics that are undefined unless each request tells its counts.
    """
    found = _over_conversations(paired) if paired.keys else {}
    for name in names:
        if name in by_request and name not in found:
            found[name] = UNDEFINED
        elif name not in found:
            found[name] = _over_rates(paired.sides) if name == RATE else _over_runs(paired.sides, name)
    return {name: found[name] for name in names}


def _over_conversations(paired: Paired) -> dict[str, Effect]:
    """Returns the effects on the metrics that are computed request by request, if no count of theirs is unknown."""
    num_units = paired.overlap.num_conversations
    by_run = [np.array([terms.sum(axis=0) for terms in paired.terms(side)]) for side in (0, 1)]
    by_unit = [_by(paired.units, np.sum(paired.terms(side), axis=0), num_units) for side in (0, 1)]
    num_runs = [len(runs) for runs in paired.sides]
    # A median is over the requests of all runs of a side.
    samples = [(np.concatenate(paired.ttft_ms(side)), np.tile(paired.units, num_runs[side])) for side in (0, 1)]
    ratio_draws, median_draws = _draw(by_unit, samples, num_units)
    found = {}
    for index, name in enumerate(RATIOS):
        values = [_divide(*unit[:, index].sum(axis=0)) for unit in by_unit]
        if None in values and not any(np.isnan(unit[:, index]).any() for unit in by_unit):
            found[name] = Effect(reference=values[0], value=values[1], ratio=no_interval(None))
            continue
        if None in values:  # some request does not tell
            continue
        one, other = (np.array([_divide(*terms) or np.nan for terms in side[:, index]]) for side in by_run)
        repeats = _repeats(paired, index) if num_runs == [1, 1] else None
        found[name] = _effect(values, ratio_draws[:, index], (one, other), repeats, num_units)
    medians = [float(np.median(values)) for values, _ in samples]
    one, other = (np.array([np.median(values) for values in paired.ttft_ms(side)]) for side in (0, 1))
    found[MEDIAN] = _effect(medians, median_draws, (one, other), None, num_units)
    return found


def _by(units: Integers, terms: Floats, num_units: int) -> Floats:
    """Returns the sums of (requests, ratios, 2) over the requests of each unit."""
    sums = np.zeros((num_units, *terms.shape[1:]))
    np.add.at(sums, units, terms)
    return sums


def _repeats(paired: Paired, index: int) -> Values | None:
    """Returns one value for each repeat of both single runs; None if there are too few."""
    numbers, rows = np.unique(paired.repeats, return_inverse=True)
    if len(numbers) < MIN_REPEATS:
        return None
    sums = [_by(rows, paired.terms(side)[0][:, index, :], len(numbers)) for side in (0, 1)]
    one, other = (np.array([_divide(*terms) or np.nan for terms in side]) for side in sums)
    return one, other


def _draw(
    by_unit: Sequence[Floats], samples: Sequence[tuple[Floats, Integers]], num_units: int
) -> tuple[Floats, Floats]:
    """Returns bootstrap draws of the ratios of both sides, (draws, ratios), and of the ratio of medians, (draws,).

    Both sides get the same draws of units.
    """
    num_ratios = by_unit[0].shape[1]
    pairs = np.concatenate([side.reshape(num_units, 2 * num_ratios) for side in by_unit], axis=1)
    drawn = [DrawnMedians(values, units, num_units) for values, units in samples]
    ratios, medians = np.empty((NUM_RESAMPLES, num_ratios)), np.empty(NUM_RESAMPLES)
    for start, weights in draw_units(num_units, max(len(values) for values, _ in samples)):
        sums = (weights.astype(np.float64) @ pairs).reshape(len(weights), 2, num_ratios, 2)
        with np.errstate(divide="ignore", invalid="ignore"):  # drawn conversations may have a denominator of 0
            rates = sums[..., 0] / sums[..., 1]
            ratios[start : start + len(weights)] = rates[:, 1] / rates[:, 0]
            one, other = (of_side.of(weights) for of_side in drawn)
            medians[start : start + len(weights)] = other / one
    return ratios, medians


def _effect(
    values: Sequence[float | None], draws: Floats, runs: Values, repeats: Values | None, num_units: int
) -> Effect:
    """Returns the effect on a metric with values on both sides."""
    reference, value = values
    assert reference is not None
    assert value is not None
    if reference <= 0 or value <= 0:
        return Effect(reference=reference, value=value, ratio=no_interval(None))
    ratio = value / reference
    ends = np.percentile(draws, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    if num_units < 2 or not np.isfinite(ends).all():
        return Effect(reference=reference, value=value, ratio=no_interval(ratio))
    interval = Interval(value=ratio, low=float(ends[0]), high=float(ends[1]))
    if (margin := _margin(runs if min(map(len, runs)) > 1 else repeats)) is not None:
        interval = widen(interval, margin)
    p_value = None
    if min(map(len, runs)) > 1 and (draws > 0).all() and _are_positive(runs):
        over_conversations = float(np.log(draws).var(ddof=1)) * num_units / (num_units - 1)
        p_value = _p_value(ratio, runs, (over_conversations, num_units - 1))
    return Effect(reference=reference, value=value, ratio=interval, p_value=p_value)


def _over_rates(sides: Sequence[Sequence[ComparedRun]]) -> Effect:
    """Returns the effect on `output_tps`: tokens over seconds, summed over the runs of a side."""
    totals = [[run.times.totals() for run in side] for side in sides]
    if any(total is None for side in totals for total in side):
        return UNDEFINED
    summed = [np.array(side, dtype=np.float64) for side in totals]
    reference, value = (float(side[:, 0].sum() / side[:, 1].sum()) for side in summed)
    if [len(side) for side in sides] != [1, 1]:
        runs = tuple(side[:, 0] / side[:, 1] for side in summed)
        return _of_runs(reference, value, (runs[0], runs[1]))
    one, other = (side[0].times.repeats() for side in sides)
    interval = no_interval(value / reference)
    if one is not None and other is not None and min(len(one[0]), len(other[0])) >= MIN_REPEATS:
        ends = ratio_of_rates(other, one)
        interval = Interval(value=interval.value, low=ends.low, high=ends.high)
    return Effect(reference=reference, value=value, ratio=interval)


def _over_runs(sides: Sequence[Sequence[ComparedRun]], name: str) -> Effect:
    """Returns the effect on a metric of which each run has one value."""
    values = [[metric_value(run.summary, name) for run in side] for side in sides]
    means = [None if None in side else float(np.mean(np.array(side, dtype=np.float64))) for side in values]
    if means[0] is None or means[1] is None:
        return Effect(reference=means[0], value=means[1], ratio=no_interval(None))
    one, other = (np.array(side, dtype=np.float64) for side in values)
    return _of_runs(means[0], means[1], (one, other))


def _of_runs(reference: float, value: float, runs: Values) -> Effect:
    if not _are_positive(runs):
        return Effect(reference=reference, value=value, ratio=no_interval(None))
    ratio, margin = value / reference, _margin(runs)
    if margin is None:
        return Effect(reference=reference, value=value, ratio=no_interval(ratio))
    return Effect(
        reference=reference, value=value, ratio=around(ratio, margin), p_value=_p_value(ratio, runs, (0.0, 1))
    )


def _margin(values: Values | None) -> float | None:
    """Returns the margin of the logarithm of a ratio over runs or repeats; None if a side has just one."""
    if values is None or min(map(len, values)) < 2 or not _are_positive(values):
        return None
    variances = [float(side.var(ddof=1) / side.mean() ** 2) for side in reversed(values)]
    return log_margin(variances, len(values[1]), len(values[0]))


def _are_positive(values: Values) -> bool:
    return all((side > 0).all() for side in values)


def _p_value(ratio: float, runs: Values, over_conversations: tuple[float, int]) -> float | None:
    """Returns the probability of a ratio this far from 1 if the true one is 1: Student's t, two-sided.

    The squared error of the logarithm has a part over conversations and one over the runs of each side. The degrees of
    freedom are Satterthwaite's.

    Args:
        ratio: of both sides.
        runs: one value for each run of either side.
        over_conversations: squared error and degrees of freedom.

    Source: Welch (1947); Satterthwaite (1946).
    """
    if min(map(len, runs)) < 2:
        return None
    errors = np.array([over_conversations[0], *(np.log(side).var(ddof=1) / len(side) for side in runs)])
    freedoms = np.array([over_conversations[1], *(len(side) - 1 for side in runs)])
    if errors.sum() < ROUNDING:  # nothing varies
        return float(abs(np.log(ratio)) < np.sqrt(ROUNDING))
    freedom = errors.sum() ** 2 / (errors**2 / freedoms).sum()
    return float(2 * special.stdtr(freedom, -abs(np.log(ratio)) / np.sqrt(errors.sum())))


def _divide(numerator: float, denominator: float) -> float | None:
    value = numerator / denominator if denominator else np.nan
    return float(value) if np.isfinite(value) else None
