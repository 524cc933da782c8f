"""Where two sequences part."""

from collections.abc import Sequence

import pytest

from specdec_bench.records.first_difference import first_difference


@pytest.mark.parametrize(
    ("one", "other", "position"),
    [
        ((1, 2, 3), (1, 2, 3), None),
        ((), (), None),
        ((1, 2, 3), (1, 5, 3), 1),
        ((1, 2), (1, 2, 3), 2),
        ((1, 2, 3), (), 0),
        ("speed", "spend", 3),
    ],
)
def test_the_first_position_that_differs(one: Sequence[object], other: Sequence[object], position: int | None) -> None:
    assert first_difference(one, other) == first_difference(other, one) == position
