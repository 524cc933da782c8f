"""Finds the highest load that passes, between one that passes and one that fails."""

import math
from collections.abc import Callable

from specdec_bench.records.capacity import Bracket

MOST_DOUBLINGS = 10
"""How far from where it starts a search goes, either way."""
DIGITS = 6
"""Significant digits of a load. The same search always tries the same loads, so that it can go on."""


def search(passes: Callable[[float], bool], start: float, tolerance: float, *, least: float, most: float) -> Bracket:
    """Returns two loads, of which the lower passed and the higher failed, no further apart than the tolerance.

    The load is doubled until one fails, or halved until one passes. Then the middle of the two, on the logarithm, takes
    the place of one of them until failed / passed <= 1 + tolerance.

    Args:
        passes: runs a load and says whether it passes. Called once for each load.
        start: the first load.
        tolerance: above 0.
        least: no load below this is tried.
        most: no load above this is tried.
    """
    passed = failed = None
    load = start
    for _ in range(MOST_DOUBLINGS + 1):
        if passes(load):
            passed, following = load, load * 2
        else:
            failed, following = load, load / 2
        if (passed is not None and failed is not None) or not least <= following <= most:
            break
        load = following
    while passed is not None and failed is not None and failed / passed > 1 + tolerance:
        middle = _round(math.sqrt(passed * failed))
        if not passed < middle < failed:
            break
        if passes(middle):
            passed = middle
        else:
            failed = middle
    return Bracket(passed=passed, failed=failed)


def _round(load: float) -> float:
    return float(f"{load:.{DIGITS}g}")
