"""How often a comparison says that two cells differ which are the same: one error in any metric counts."""

import numpy as np
import pytest

from specdec_bench.compare.comparison import Comparison
from specdec_bench.compare.effects import HEADLINE
from tests.helpers.simulated_comparisons import judge


def differs(comparison: Comparison) -> bool:
    (cell,) = comparison.cells
    assert comparison.num_judged == len(cell.metrics) == len(HEADLINE)
    assert all(metric.verdict != "not judged" for metric in cell.metrics)
    return any(metric.verdict in ("better", "worse") for metric in cell.metrics)


def share_different(num_simulations: int, num_runs: int, num_prompts: int) -> float:
    random = np.random.default_rng(0)
    found = [differs(judge(random, num_runs=num_runs, num_prompts=num_prompts)) for _ in range(num_simulations)]
    return float(np.mean(found))


def test_the_same_is_rarely_called_different() -> None:
    # 5% at most are allowed; in 60 comparisons 8 would be more than chance gives once in a hundred times.
    assert share_different(60, num_runs=3, num_prompts=30) < 8 / 60


def test_what_differs_is_called_worse() -> None:
    random = np.random.default_rng(0)
    for _ in range(10):
        (cell,) = judge(random, num_runs=5, slower=1.3, fewer=0.9).cells
        assert {metric.verdict for metric in cell.metrics} == {"worse"}


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("num_runs", "num_prompts"), [(3, 30), (3, 10), (5, 80)])
def test_of_a_thousand_comparisons_of_the_same_at_most_70_differ(num_runs: int, num_prompts: int) -> None:
    share = share_different(1000, num_runs, num_prompts)
    print(f"{num_runs} runs of {num_prompts} prompts: {share:.1%} of 1,000 differ")
    assert share <= 0.07
