"""A finished cell, read in one pass, and which cells may be compared."""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import to_builtins

from specdec_bench.archive.layout import RunDirectory
from specdec_bench.archive.provenance import comparable
from specdec_bench.compare import headline, losslessness
from specdec_bench.compare.speedup import Advice, NotJudged, RunTimes
from specdec_bench.records.manifest import LoadLabel, Manifest
from specdec_bench.records.summary import Summary

ALWAYS_SHOWN = ("engine", "model", "dataset", "spec", "draft_length", "concurrency", "load_axis", "load_value")
"""Columns by which tables and plots tell cells apart, beside the replicate."""


@dataclass(kw_only=True)
class Measured:
    """A finished cell, read in one pass."""

    run: RunDirectory
    manifest: Manifest
    summary: Summary
    times: RunTimes
    outputs: losslessness.Outputs
    conversations: headline.Conversations

    @property
    def is_plain(self) -> bool:
        """Whether nothing was drafted."""
        return bool(self.manifest.config["spec"]["name"] == "none")

    @property
    def replicate(self) -> int:
        """Which of several runs of the same cell it is."""
        return int(self.manifest.config.get("replicate", 0))

    @property
    def method(self) -> str:
        """All of `spec`: what tells it from the other cells of the same baseline."""
        return json.dumps(self.manifest.config["spec"], sort_keys=True)


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """What is the fastest at one load."""

    load: dict[str, str | int | float | None]
    """What methods are run on there, by column."""
    advice: Advice | NotJudged

    def as_tree(self) -> dict[str, object]:
        """Returns both as comparison.json has them."""
        return {**self.load, **to_builtins(self.advice)}


@dataclass(kw_only=True)
class SweepResult:
    """All of it, as plain data."""

    rows: list[dict[str, Any]]
    """One a cell."""
    replicates: list[dict[str, Any]]
    """One for all runs of a cell that was run several times beside as many plain runs."""
    comparisons: dict[str, Any]
    """By job number: the divergences of outputs, with text."""
    recommendations: list[Recommendation]
    told_apart: list[str]
    """Columns of the rows: the fields in which cells differ that `ALWAYS_SHOWN` does not tell apart."""
    loads: dict[str, LoadLabel]
    """By `load_axis` of the rows: what one of its loads is called."""


def incomparable(plain: Manifest, cell: Manifest) -> str | None:
    """Returns why two runs must not be compared, although the same was asked for; None if they may be."""
    if plain.environment_id != cell.environment_id:
        then, now = comparable(plain.environment), comparable(cell.environment)
        names = [name for name in {**then, **now} if then.get(name) != now.get(name)]
        return f"measured in another environment ({', '.join(names)})"
    targets = [manifest.checkpoints.get("target") for manifest in (plain, cell)]
    weights = [None if target is None else target.fingerprint for target in targets]
    return "the target's weights differ" if weights[0] != weights[1] else None


def by_method(
    plain: Mapping[int, Measured], measured: Mapping[int, Measured]
) -> dict[str, dict[int, tuple[int, Measured]]]:
    """Returns the speculative cells that may be compared: by method and replicate, job number and run."""
    methods: dict[str, dict[int, tuple[int, Measured]]] = defaultdict(dict)
    for number, cell in measured.items():
        other = plain.get(cell.replicate)
        if not cell.is_plain and other is not None and incomparable(other.manifest, cell.manifest) is None:
            methods[cell.method][cell.replicate] = (number, cell)
    return methods
