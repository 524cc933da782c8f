"""A finished cell, read in one pass, and which cells may be compared."""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from msgspec import UNSET, UnsetType, to_builtins

from specdec_bench.archive.layout import RunDirectory
from specdec_bench.archive.provenance import comparable
from specdec_bench.compare import headline, losslessness
from specdec_bench.compare.row import Row
from specdec_bench.compare.speedup import Advice, NotJudged, RunTimes
from specdec_bench.records.labels import method_of
from specdec_bench.records.manifest import LoadLabel, Manifest
from specdec_bench.records.options import options
from specdec_bench.records.request import Record
from specdec_bench.records.summary import Summary

ALWAYS_SHOWN = (
    *("engine", "model", "dataset", "spec", "draft_length", "draft_lengths"),
    *("concurrency", "load_axis", "load_value"),
)
"""Columns that distinguish cells in tables and plots, in addition to the replicate."""


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
        return method_of(self.manifest.config)[0] == "none"

    @property
    def replicate(self) -> int:
        """The number of this run among several of the same cell."""
        replicate = self.manifest.config.get("replicate")
        return replicate if isinstance(replicate, int) else 0

    @property
    def method(self) -> str:
        """All of `spec`, which distinguishes it from other cells with the same baseline."""
        return json.dumps(options(self.manifest.config, "spec"), sort_keys=True)


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """Which method is the fastest at one load."""

    load: Row
    """The conditions that the methods ran under, by column."""
    advice: Advice | NotJudged

    def as_tree(self) -> dict[str, object]:
        """Returns both in the format of comparison.json."""
        return {**self.load, **to_builtins(self.advice)}


class OutputComparison(Record, frozen=True, kw_only=True):
    """A cell's outputs compared with its baseline's. A field that does not apply is not set."""

    not_compared: str | UnsetType = UNSET
    """Why the runs must not be compared."""
    lossless: UnsetType | None = UNSET
    """None if outputs are not compared under these settings."""
    baseline: str | UnsetType = UNSET
    """The baseline's folder."""
    measured: losslessness.Sameness | UnsetType = UNSET
    control: losslessness.Sameness | UnsetType | None = UNSET
    """The same for two plain runs; None without a second plain run."""


@dataclass(kw_only=True)
class SweepResult:
    """A sweep's results."""

    rows: list[Row]
    """One for each cell."""
    replicates: list[Row]
    """One for each cell that was run several times, over all of its runs and as many plain runs."""
    comparisons: dict[str, OutputComparison]
    """By job number."""
    recommendations: list[Recommendation]
    varying_fields: list[str]
    """Columns of the rows: the fields that differ between cells with the same values in `ALWAYS_SHOWN`."""
    loads: dict[str, LoadLabel]
    """The label of one load on each axis, by `load_axis` of the rows."""


def incomparable(plain: Manifest, cell: Manifest) -> str | None:
    """Returns why two runs must not be compared although they share a baseline; None if they may be."""
    if plain.imported is not None or cell.imported is not None:
        return "imported from another tool, which does not tell whether the runs match"
    if plain.environment_id != cell.environment_id:
        then, now = comparable(plain.environment), comparable(cell.environment)
        names = [name for name in {**then, **now} if then.get(name) != now.get(name)]
        return f"measured in another environment ({', '.join(names)})"
    targets = [manifest.checkpoints.get("target") for manifest in (plain, cell)]
    weights = [None if target is None else target.fingerprint for target in targets]
    return "the target's weights differ" if weights[0] != weights[1] else None


def runners_differ(one: Manifest, other: Manifest) -> str | None:
    """Returns a caveat if an engine ran two cells by different implementations of its model loop; None if it did not.

    An engine may have a method in its older implementation only: vLLM 0.32 runs Medusa, suffix decoding and parallel
    drafting on model runner V1, and the rest on V2 where it can.

    Args:
        one: of the run that is compared with.
        other: of the other run.
    """
    runners = [manifest.engine.runner or None for manifest in (one, other)]
    if None in runners or runners[0] == runners[1]:
        return None
    return f"model runner {runners[1]} against {runners[0]}: ratios of times hold the difference of the runners too"


def by_method(
    plain: Mapping[int, Measured], measured: Mapping[int, Measured]
) -> dict[str, dict[int, tuple[int, Measured]]]:
    """Returns the comparable speculative cells, as job number and run, by method and replicate."""
    methods: dict[str, dict[int, tuple[int, Measured]]] = defaultdict(dict)
    for number, cell in measured.items():
        other = plain.get(cell.replicate)
        if not cell.is_plain and other is not None and incomparable(other.manifest, cell.manifest) is None:
            methods[cell.method][cell.replicate] = (number, cell)
    return methods
