"""Recomputes an archive's summary.json, and reports how it differs from the previous one."""

import json
from typing import TYPE_CHECKING, Any

from specdec_bench.archive import RunDirectory
from specdec_bench.errors import abbreviated
from specdec_bench.records.flatten import flatten
from specdec_bench.runner.cell import encoded_summary, samples_of

if TYPE_CHECKING:
    from specdec_bench.metrics.summary import Samples


def resummarize(run: RunDirectory) -> "tuple[Samples, list[str]]":
    """Rewrites summary.json if it changed; returns the data it was computed from, and a line for each change.

    Raises:
        ArchiveError: the run cannot be read, or its summary cannot be written.
    """
    before = run.summary_path.read_bytes() if run.summary_path.is_file() else None
    samples = samples_of(run)
    after = encoded_summary(samples, run.manifest())
    if after == before:
        return samples, ["unchanged"]
    run.write_summary(after)
    return samples, ["written"] if before is None else changes(before, json.loads(after))


def has_other_definitions(run: RunDirectory) -> bool:
    """Returns whether a run's summary was computed with other formulas than the current ones."""
    from specdec_bench.metrics.definitions import DEFINITIONS

    return run.summary_path.is_file() and run.summary().definitions != DEFINITIONS


def changes(before: bytes, after: dict[str, Any]) -> list[str]:
    """Returns how a summary differs from an earlier one: changed definitions, changed values, new definitions."""
    from specdec_bench.metrics.definitions import DEFINITIONS, changed_definitions

    try:
        old = json.loads(before)
        stored = dict(old["definitions"])
    except (ValueError, TypeError, KeyError):
        return ["CHANGED: what was there before was no summary"]
    changed = changed_definitions(stored)
    lines = [
        f"the definition of {name} CHANGED: it was {formula!r}, and is {DEFINITIONS[name]!r}"
        for name, formula in changed.items()
    ]
    if old == after:  # the same in another order
        return ["unchanged"]
    del old["definitions"]
    then, now = flatten(old), flatten(after)
    unexplained = [
        path
        for path, value in then.items()
        if path in now and now[path] != value and not changed.keys() & set(path.split("."))
    ]
    if unexplained:
        lines.append(f"CHANGED: {abbreviated(unexplained)} had another value before")
    if added := sorted(DEFINITIONS.keys() - stored.keys()):
        lines.append(f"new since it was written: {', '.join(added)}")
    return lines or ["CHANGED: other fields or another layout"]
