"""A comparison of runs that nobody can check to match, made because the user says that they do."""

from collections.abc import Iterable

from specdec_bench.compare.speedup import RunTimes, speedup
from specdec_bench.records.interval import Interval
from specdec_bench.records.request import Record, RequestRecord


class Claimed(Record, frozen=True, kw_only=True):
    """claimed.json."""

    is_claimed: bool = True
    """That both runs had the same engine, model, prompts, sampling and load is the user's claim."""
    baseline: str
    """The plain run's folder."""
    num_pairs: int
    num_left_out: int
    speedup_tpot: Interval
    speedup_e2e: Interval


def compare_claimed(baseline: str, plain: Iterable[RequestRecord], other: Iterable[RequestRecord]) -> Claimed:
    """Returns the speedups of a run over a plain one, paired by prompt, turn and repeat."""
    found = speedup([RunTimes(plain)], [RunTimes(other)])
    return Claimed(
        baseline=baseline,
        num_pairs=found.num_pairs,
        num_left_out=found.num_left_out,
        speedup_tpot=found.speedup_tpot,
        speedup_e2e=found.speedup_e2e,
    )
