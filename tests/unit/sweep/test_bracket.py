"""The search for the highest load that passes, on a limit that is known."""

import pytest

from specdec_bench.records.capacity import Bracket
from specdec_bench.sweep.bracket import MOST_DOUBLINGS, search


class Limit:
    """Every load up to the limit passes."""

    def __init__(self, limit: float) -> None:
        self.limit, self.tried = limit, []  # type: float, list[float]

    def passes(self, load: float) -> bool:
        assert load not in self.tried, "no load is run twice"
        self.tried.append(load)
        return load <= self.limit


def found(limit: float, start: float = 1, tolerance: float = 0.5) -> tuple[Bracket, list[float]]:
    known = Limit(limit)
    return search(known.passes, start, tolerance, least=1e-4, most=1e5), known.tried


def test_by_hand_upwards() -> None:
    """1, 2 and 4 pass, 8 fails; the middle of 4 and 8 is 4 x sqrt(2); that of 4 and 5.66 is not needed at 50%."""
    bracket, tried = found(5)
    assert tried == [1, 2, 4, 8, 5.65685]
    assert bracket == Bracket(passed=4, failed=5.65685)


def test_by_hand_downwards() -> None:
    bracket, tried = found(0.3)
    assert tried == [1, 0.5, 0.25, 0.353553]
    assert bracket == Bracket(passed=0.25, failed=0.353553)


@pytest.mark.parametrize("tolerance", [1, 0.3, 0.05, 0.001])
@pytest.mark.parametrize("limit", [0.011, 0.99, 1, 1.01, 37.3, 900])
def test_the_limit_is_within_the_tolerance(limit: float, tolerance: float) -> None:
    bracket, _ = found(limit, 1, tolerance)
    assert bracket.passed is not None
    assert bracket.failed is not None
    assert bracket.passed <= limit < bracket.failed <= bracket.passed * (1 + tolerance)


def test_a_search_that_finds_no_end_says_so() -> None:
    assert found(1e9)[0] == Bracket(passed=2**MOST_DOUBLINGS, failed=None)
    assert found(0)[0] == Bracket(passed=None, failed=0.5**MOST_DOUBLINGS)
    assert found(1e9, start=40_000)[0] == Bracket(passed=80_000, failed=None), "not beyond what a load takes"
    assert found(0, start=3e-4)[0] == Bracket(passed=None, failed=1.5e-4)
