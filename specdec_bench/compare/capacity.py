"""The highest load at which a share of the requests meets the objectives, and what speculation makes of it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from specdec_bench.compare.bootstrap import MAX_DRAWN, NUM_RESAMPLES
from specdec_bench.compare.intervals import CONFIDENCE, around, no_interval
from specdec_bench.metrics.arrays import Floats, Integers
from specdec_bench.metrics.backlog import MOST_GROWTH, MOST_REQUESTS, BacklogGrowth, backlog_growth, is_growing
from specdec_bench.metrics.goodput import missed_objectives
from specdec_bench.metrics.timing import request_times
from specdec_bench.records.interval import Interval
from specdec_bench.records.request import RequestRecord

Outcomes = Mapping[str, tuple[int, int]]
"""By prompt: the requests that met every objective, and those that finished or failed."""


@dataclass(frozen=True, kw_only=True)
class ProbeRun:
    """One run of a load."""

    outcomes: Outcomes
    growth: BacklogGrowth


@dataclass(frozen=True, kw_only=True)
class Probe:
    """All runs of one load, one for each seed."""

    load: float
    runs: Sequence[ProbeRun]

    @property
    def share(self) -> float:
        """The share of requests that met the objectives."""
        counts = [outcome for run in self.runs for outcome in run.outcomes.values()]
        num_judged = sum(judged for _, judged in counts)
        return sum(within for within, _ in counts) / num_judged if num_judged else 0.0

    @property
    def is_growing(self) -> bool:
        """Whether requests arrive faster than they are answered."""
        return is_growing([run.growth for run in self.runs])

    def passes(self, share: float) -> bool:
        """Whether that share of the requests met the objectives, without a growing backlog."""
        return self.share >= share and not self.is_growing


def read_run(records: Iterable[RequestRecord], objectives: Mapping[str, float]) -> ProbeRun:
    """Returns what a probe needs of one run."""
    records = list(records)
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for record in records:
        has_failed = record.error is not None
        if record.phase != "measure" or (record.error is not None and record.error.kind in _NOT_JUDGED):
            continue
        count = counts[record.prompt_id]
        count[0] += not has_failed and not missed_objectives(request_times(record), objectives)
        count[1] += 1
    outcomes = {prompt: (within, judged) for prompt, (within, judged) in counts.items()}
    return ProbeRun(outcomes=outcomes, growth=backlog_growth(records))


_NOT_JUDGED = ("context_overflow", "interrupted")


def capacity(probes: Sequence[Probe], share: float) -> Interval:
    """Returns the load at which the share of requests within the objectives falls to `share`, with its 95% interval.

    See `_find_crossing` for the estimate and `_interval` for the interval.
    """
    logarithms = [_log_crossings(probes, share, *draws) for draws in _draws([probes])]
    return _interval(logarithms, len(probes[0].runs), _resolution(probes, share, logarithms[0][0]))


def capacity_ratio(speculative: Sequence[Probe], plain: Sequence[Probe], share: float) -> Interval:
    """Returns the capacity of a speculative cell over that of the plain one, with its 95% interval.

    Both sides get the same arrivals and prompts, so seeds and conversations are drawn in pairs.
    """
    draws = _draws([speculative, plain])
    tops, bottoms = ([_log_crossings(side, share, *drawn) for drawn in draws] for side in (speculative, plain))
    of_top, of_bottom = _resolution(speculative, share, tops[0][0]), _resolution(plain, share, bottoms[0][0])
    ratios = [top - bottom for top, bottom in zip(tops, bottoms, strict=True)]
    return _interval(ratios, len(plain[0].runs), float(np.hypot(of_top, of_bottom)))


def _resolution(probes: Sequence[Probe], share: float, log_estimate: float) -> float:
    """Returns how far the estimate is from the further of the two loads around it, on the logarithm.

    These are the highest load below which every load passed, and the next one.
    """
    ordered = sorted(probes, key=lambda probe: probe.load)
    num_passed = next((n for n, probe in enumerate(ordered) if not probe.passes(share)), len(ordered))
    ends = [np.log(probe.load) for probe in ordered[max(num_passed - 1, 0) : num_passed + 1]]
    return float(max(abs(log_estimate - end) for end in ends))


def _interval(logarithms: Sequence[Floats], num_seeds: int, resolution: float) -> Interval:
    """Returns an estimate with its interval, which is symmetric on the logarithm.

    One bootstrap draws whole conversations, another the seeds. Their margins are added in quadrature, as they show
    different things. The bootstrap over n seeds gives (n - 1) / n of the variance, which is corrected, and its margin
    takes Student's t with n - 1 degrees of freedom. What the searches did not resolve is a third margin: requests may
    all meet the objectives until the backlog grows, and then no resample shows where between two loads that is.

    Args:
        logarithms: (1,) of the estimate; with conversations drawn, empty if there are fewer than two; with seeds drawn.
        num_seeds: at least 2.
        resolution: how far from the estimate the searches leave the truth, on the logarithm.
    """
    value, over_conversations, over_seeds = logarithms
    estimate = float(np.exp(value[0]))
    if not len(over_conversations):
        return no_interval(estimate)
    tail = (1 + CONFIDENCE) / 2
    of_conversations = special.ndtri(tail) * over_conversations.std(ddof=1)
    correction = np.sqrt(num_seeds / (num_seeds - 1))
    of_seeds = special.stdtrit(num_seeds - 1, tail) * correction * over_seeds.std(ddof=1)
    return around(estimate, float(np.sqrt(of_conversations**2 + of_seeds**2 + resolution**2)))


def _draws(sides: Sequence[Sequence[Probe]]) -> list[tuple[Floats, Floats, list[str]]]:
    """Returns how often each conversation and each seed is drawn: once each; conversations alone; seeds alone.

    Each is (resamples, conversations), (resamples, seeds) and the prompts in order.
    """
    prompts = sorted({prompt for probes in sides for probe in probes for run in probe.runs for prompt in run.outcomes})
    num_prompts, num_seeds = len(prompts), len(sides[0][0].runs)
    rng = np.random.default_rng(0)
    once = np.ones((1, num_prompts)), np.ones((1, num_seeds))
    number = NUM_RESAMPLES if num_prompts > 1 else 0
    drawn_prompts = rng.multinomial(num_prompts, np.full(num_prompts, 1 / max(num_prompts, 1)), size=number)
    drawn_seeds = rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size=NUM_RESAMPLES)
    return [
        (*once, prompts),
        (drawn_prompts.astype(np.float64), once[1], prompts),
        (once[0], drawn_seeds.astype(np.float64), prompts),
    ]


def _log_crossings(
    probes: Sequence[Probe], share: float, prompt_weights: Floats, seed_weights: Floats, prompts: Sequence[str]
) -> Floats:
    """Returns the logarithm of the load at which the share is met, in every resample."""
    probes = sorted(probes, key=lambda probe: probe.load)
    within, judged = _counts(probes, prompts)
    grows = _grows(probes, seed_weights)
    number = max(len(prompt_weights), len(seed_weights)) if len(prompt_weights) and len(seed_weights) else 0
    size = max(MAX_DRAWN // max(within[0].size, 1), 1)
    log_loads = np.log([probe.load for probe in probes])
    found = np.empty(number)
    for start in range(0, number, size):
        chunk = slice(start, min(start + size, number))
        of_prompts = prompt_weights if len(prompt_weights) == 1 else prompt_weights[chunk]
        of_seeds = seed_weights if len(seed_weights) == 1 else seed_weights[chunk]
        tops, bottoms = (_weigh(of_prompts, counts, of_seeds) for counts in (within, judged))
        # Under a growing backlog none counts as within the objectives: whoever came later would wait longer.
        tops = np.where(grows if len(grows) == 1 else grows[chunk], 0, tops)
        found[chunk] = [_find_crossing(log_loads, *row, share) for row in zip(tops, bottoms, strict=True)]
    return found


def _weigh(prompt_weights: Floats, counts: Floats, seed_weights: Floats) -> Floats:
    """Returns sums over seeds and prompts, (resamples, loads). One of the weights has a single row."""
    by_seed = np.einsum("rp,lsp->rls", prompt_weights, counts)
    weighted: Floats = (by_seed * seed_weights[:, np.newaxis, :]).sum(axis=-1)
    return weighted


def _counts(probes: Sequence[Probe], prompts: Sequence[str]) -> tuple[Floats, Floats]:
    """Returns requests within the objectives and requests judged, each (loads, seeds, prompts)."""
    counts = np.array(
        [[[run.outcomes.get(prompt, (0, 0)) for prompt in prompts] for run in probe.runs] for probe in probes],
        dtype=np.float64,
    ).reshape(len(probes), -1, len(prompts), 2)
    return counts[..., 0], counts[..., 1]


def _grows(probes: Sequence[Probe], seed_weights: Floats) -> Integers:
    """Returns whether the backlog grows, (resamples, loads), by the rule of `is_growing`."""
    growth = np.array([[(run.growth.num_requests, run.growth.num_due) for run in probe.runs] for probe in probes])
    num_requests, num_due = seed_weights @ growth[:, :, 0].T, seed_weights @ growth[:, :, 1].T
    num_runs = seed_weights.sum(axis=1, keepdims=True)
    grows: Integers = (num_requests > MOST_GROWTH * num_due) & (num_requests > MOST_REQUESTS * num_runs)
    return grows


def _find_crossing(log_loads: Floats, within: Floats, judged: Floats, share: float) -> float:
    """Returns where the share of requests within the objectives falls to `share`, on the logarithm of the load.

    The shares are first made to fall with the load, by isotonic regression weighted by the number of requests; between
    two loads they are interpolated. Beyond the loads that were tried, the first or the last of them is returned.

    Args:
        log_loads: ascending.
        within: requests within the objectives, by load.
        judged: all requests, by load.
        share: asked for.
    """
    shares = np.divide(within, judged, out=np.zeros_like(within), where=judged > 0)
    fitted = optimize.isotonic_regression(shares, weights=np.maximum(judged, 1e-9), increasing=False).x
    num_above = int(np.count_nonzero(fitted >= share))
    if num_above in (0, len(fitted)):
        return float(log_loads[0 if num_above == 0 else -1])
    above, below = fitted[num_above - 1], fitted[num_above]
    part = (above - share) / (above - below)
    return float(log_loads[num_above - 1] + part * (log_loads[num_above] - log_loads[num_above - 1]))
