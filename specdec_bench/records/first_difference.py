"""Where two sequences part."""

from collections.abc import Sequence


def first_difference(one: Sequence[object], other: Sequence[object]) -> int | None:
    """Returns the first position at which two sequences differ, the shorter's end included; None: they are equal."""
    shorter = min(len(one), len(other))
    position = next((index for index in range(shorter) if one[index] != other[index]), shorter)
    return None if position == len(one) == len(other) else position
