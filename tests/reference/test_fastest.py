"""How often a method is named fastest that is not: among methods that are equally fast."""

import numpy as np
import pytest

from specdec_bench.compare.speedup import RunTimes, recommend
from specdec_bench.metrics.timing import RequestTimes

NUM_CONVERSATIONS = 30


def measured(random: np.random.Generator, tpots_ms: dict[str, float], num_runs: int) -> dict[str, list[RunTimes]]:
    """Returns runs of cells of these true speeds: prompts differ, drafts fit some of them, machines drift."""
    prompt = random.lognormal(0, 0.3, NUM_CONVERSATIONS)
    fit = {name: random.lognormal(0, 0.1, NUM_CONVERSATIONS) for name in tpots_ms}
    runs: dict[str, list[RunTimes]] = {name: [] for name in tpots_ms}
    for drift in np.exp(random.normal(0, 0.1, num_runs).cumsum()):
        for name, tpot_ms in tpots_ms.items():
            noise = random.lognormal(0, 0.05, NUM_CONVERSATIONS)
            times = RunTimes()
            milliseconds = tpot_ms * drift * random.lognormal(0, 0.03) * prompt * fit[name] * noise
            times.requests = {
                (f"p{i}", 0, 0): RequestTimes(ttft_ms=0, e2e_ms=ms, tpot_ms=ms) for i, ms in enumerate(milliseconds)
            }
            runs[name].append(times)
    return runs


def share_named(tpots_ms: dict[str, float], num_runs: int, num_simulations: int) -> float:
    """Returns in what share of sweeps any method was named."""
    random, named = np.random.default_rng(0), 0
    for _ in range(num_simulations):
        cells = measured(random, tpots_ms, num_runs)
        advice = recommend(cells.pop("none"), cells)
        assert advice.not_judged is None
        named += not advice.tied
    return named / num_simulations


EQUAL = {"none": 20.0, "ngram": 10.0, "draft_model": 10.0}
SIX_EQUAL = {"none": 20.0, **{f"{method} K={k}": 10.0 for method in ("ngram", "draft_model") for k in (1, 3, 5)}}


@pytest.mark.parametrize("cells", [EQUAL, SIX_EQUAL], ids=["two", "six"])
def test_of_equal_methods_none_is_named(cells: dict[str, float]) -> None:
    # 5% at most are allowed; in 100 sweeps 10 would be more than chance gives once in a hundred times.
    assert share_named(cells, num_runs=3, num_simulations=100) < 0.10


def test_a_method_that_is_faster_is_named() -> None:
    assert share_named(EQUAL | {"ngram": 7.0}, num_runs=5, num_simulations=20) > 0.9


@pytest.mark.soak
@pytest.mark.parametrize("num_runs", [3, 5])
@pytest.mark.parametrize("cells", [EQUAL, SIX_EQUAL, dict.fromkeys(EQUAL, 10.0)], ids=["two", "six", "all"])
def test_of_equal_methods_at_most_one_in_twenty_is_named(cells: dict[str, float], num_runs: int) -> None:
    assert share_named(cells, num_runs, num_simulations=2000) <= 0.06
