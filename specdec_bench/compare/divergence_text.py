"""The text around the place where two outputs diverge."""

from collections.abc import Sequence

import msgspec

from specdec_bench.archive.layout import RunDirectory
from specdec_bench.compare.losslessness import Divergence
from specdec_bench.records.first_difference import first_difference

TEXT_AROUND = 60
"""Characters of text shown on either side of a divergence."""


def with_texts(
    divergences: Sequence[Divergence], baseline: RunDirectory, other: RunDirectory
) -> tuple[Divergence, ...]:
    """Returns divergences with both texts; None where a run's texts were left out.

    Raises:
        ArchiveError: the texts of a run are broken.
    """
    if not divergences:
        return ()
    baseline_texts, texts = _texts(baseline), _texts(other)
    found = []
    for divergence in divergences:
        key = (divergence.prompt_id, divergence.turn, divergence.repeat)
        baseline_text, text = _around(baseline_texts.get(key), texts.get(key))
        found.append(msgspec.structs.replace(divergence, baseline_text=baseline_text, text=text))
    return tuple(found)


def _texts(run: RunDirectory) -> dict[tuple[str, int, int], str]:
    if not run.responses_path.is_file():
        return {}
    return {(r.prompt_id, r.turn, r.repeat): r.text for r in run.responses()}


def _around(baseline: str | None, other: str | None) -> tuple[str | None, str | None]:
    """Returns both texts around the first character in which they differ."""
    if baseline is None or other is None:
        return None, None
    position = first_difference(baseline, other)
    at = len(baseline) if position is None else position  # different tokens, same text
    around = slice(max(at - TEXT_AROUND, 0), at + TEXT_AROUND)
    return baseline[around], other[around]
