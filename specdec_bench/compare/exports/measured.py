"""The acceptance of one cell over all of its runs, as exports need it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from specdec_bench.compare.headline import Conversations, pooled_metrics
from specdec_bench.compare.intervals import log_margin_of_runs, no_interval, widen
from specdec_bench.compare.pairing import ArchivedCell, cell_name
from specdec_bench.errors import ArchiveInputError
from specdec_bench.metrics.acceptance import RequestAcceptance, from_counters, macro, pool, request_acceptance
from specdec_bench.records.interval import Interval
from specdec_bench.records.labels import draft_lengths_of, method_of
from specdec_bench.records.manifest import Manifest
from specdec_bench.records.options import option
from specdec_bench.records.request import AcceptanceSource, RequestRecord
from specdec_bench.records.summary import PooledAcceptance

LENGTH = "acceptance_length_drafted"
"""The metric that every export calls acceptance length: 1 + accepted / verify steps."""


@dataclass(frozen=True, kw_only=True)
class MeasuredAcceptance:
    """How many drafts of one cell were accepted, over all of its runs."""

    cell: ArchivedCell
    draft_length: int
    """K."""
    source: AcceptanceSource
    pooled: PooledAcceptance
    """The same as in summary.json, over all runs."""
    length: Interval
    """`LENGTH`, pooled. It counts the bonus token that the target adds to each verify step."""
    length_per_request: float | None
    """The mean of each request's own length. None if the engine counted the run alone."""
    by_category: Mapping[str, PooledAcceptance]
    rates_where_proposed: Sequence[float | None]
    """For i = 1..K, the share of drafts at position i that were accepted, of those that were proposed after i - 1
    accepted ones. None: there were none. Empty if the engine did not count by position."""

    @property
    def manifest(self) -> Manifest:
        """Returns the manifest of the first run."""
        return self.cell.manifests[0]

    @property
    def name(self) -> str:
        """Returns the cell's method, load and folder."""
        return f"{self.cell.runs[0].path} ({cell_name(self.cell)})"

    @property
    def histogram(self) -> list[int]:
        """Returns how many verify steps accepted exactly 0, 1, ..., K drafts.

        Raises:
            ArchiveInputError: the engine did not count by position.
        """
        if self.pooled.acceptance_histogram is None:
            raise ArchiveInputError(
                f"{self.name}: acceptance by position is unknown, because the engine counted ({self.source}) without "
                "it; only golden, csv and parquet can be exported"
            )
        return self.pooled.acceptance_histogram

    def joint_rates(self) -> list[float]:
        """Returns the chance that a verify step with K proposals accepts at least i drafts, i = 1..K.

        It is the product of `rates_where_proposed` up to i. It differs from `acceptance_joint` if some steps proposed
        fewer than K drafts: those count here only at the positions that they proposed.

        Raises:
            ArchiveInputError: it is not known, or nothing was proposed at a position although all before it were
                accepted.
        """
        joint, reached = [], 1.0
        for position, rate in zip(range(1, len(self.histogram)), self.rates_where_proposed, strict=True):
            if rate is None and reached > 0:
                raise ArchiveInputError(
                    f"{self.name}: no draft was proposed at position {position} of spec.draft_length="
                    f"{self.draft_length}, so that its acceptance is unknown; measure longer replies, or a smaller "
                    "draft length"
                )
            reached *= rate or 0.0
            joint.append(reached)
        return joint


def measure(cell: ArchivedCell) -> MeasuredAcceptance:
    """Returns the acceptance of a cell.

    Raises:
        ArchiveInputError: it drafts nothing, or its accepted drafts were not counted exactly.
        ArchiveError: a run cannot be read.
    """
    manifest = cell.manifests[0]
    where = f"{cell.runs[0].path} ({cell_name(cell)})"
    method, draft_length = method_of(manifest.config)
    if method in (None, "none"):
        raise ArchiveInputError(f"{where}: drafts nothing; export a run with speculation")
    if draft_lengths_of(manifest.config) is not None:
        raise ArchiveInputError(
            f"{where}: its draft length followed the batch size, and an export is of one draft length; export a run "
            "without spec.draft_length_by_batch_size"
        )
    if draft_length is None:
        raise ArchiveInputError(f"{where}: does not say its draft length; export a run that was made with it")
    runs = [[r for r in run.requests() if r.phase == "measure" and r.error is None] for run in cell.runs]
    source = _source(where, runs)
    records = [record for run in runs for record in run]
    if source == "engine_request":
        counts = [request_acceptance(record) for record in records]
    else:
        totals = [found.engine_totals for found in cell.manifests]
        counts = [from_counters(total, 0) for total in totals if total is not None]
        if len(counts) < len(totals):
            raise ArchiveInputError(f"{where}: the engine's totals are missing; measure again")
    draft_length = max([draft_length, *(len(count.histogram or ()) - 1 for count in counts)])
    pooled = pool(counts, draft_length)
    if pooled.acceptance_length_drafted is None:
        raise ArchiveInputError(f"{where}: no verify step was counted, so there is no acceptance to export")
    _check(where, pooled)
    is_by_request = source == "engine_request"
    return MeasuredAcceptance(
        cell=cell,
        draft_length=draft_length,
        source=source,
        pooled=pooled,
        # The interval's own value differs from the summary's by rounding.
        length=msgspec.structs.replace(
            _length(runs) if is_by_request else no_interval(None), value=pooled.acceptance_length_drafted
        ),
        length_per_request=macro(counts, draft_length).acceptance_length_drafted if is_by_request else None,
        by_category=_by_category(records, counts, draft_length) if is_by_request else {},
        rates_where_proposed=_rates_where_proposed(manifest, records, pooled),
    )


def _source(where: str, runs: Sequence[Sequence[RequestRecord]]) -> AcceptanceSource:
    """Returns where the counts of all runs come from.

    Raises:
        ArchiveInputError: there are none, or they are guesses.
    """
    sources = {record.acceptance_source for run in runs for record in run if record.steps}
    if sources == {"engine_request"}:
        return "engine_request"
    if sources == {"engine_total"}:
        return "engine_total"
    if "stream" in sources:
        raise ArchiveInputError(
            f"{where}: acceptance was counted from the stream, an upper bound; export a run whose engine counts it"
        )
    told = ", ".join(sorted(map(str, sources))) or "no request"
    raise ArchiveInputError(f"{where}: accepted drafts were not counted in one way ({told}); there is none to export")


def _check(where: str, pooled: PooledAcceptance) -> None:
    """Refuses counts that contradict each other.

    Raises:
        ArchiveInputError: naming them.
    """
    if (histogram := pooled.acceptance_histogram) is None:
        return
    by_step = sum(histogram), sum(accepted * steps for accepted, steps in enumerate(histogram))
    if by_step != (pooled.verify_steps, pooled.accepted):
        raise ArchiveInputError(
            f"{where}: the engine's counts contradict each other: {pooled.verify_steps} verify steps with "
            f"{pooled.accepted} accepted drafts, but {by_step[0]} with {by_step[1]} by position"
        )


def _by_category(
    records: Sequence[RequestRecord], counts: Sequence[RequestAcceptance], draft_length: int
) -> dict[str, PooledAcceptance]:
    grouped: dict[str, list[RequestAcceptance]] = {}
    for record, count in zip(records, counts, strict=True):
        grouped.setdefault(record.category, []).append(count)
    return {category: pool(grouped[category], draft_length) for category in sorted(grouped)}


def _length(runs: Sequence[Sequence[RequestRecord]]) -> Interval:
    """Returns the acceptance length with its interval over conversations and, if there are several, over runs."""
    conversations = [Conversations(run) for run in runs]
    found = pooled_metrics(conversations)[LENGTH]
    of_runs = [pooled_metrics([run])[LENGTH].value for run in conversations] if len(runs) > 1 else []
    known = np.array([value for value in of_runs if value is not None])
    return widen(found, log_margin_of_runs(known)) if len(known) > 1 else found


def _rates_where_proposed(
    manifest: Manifest, records: Sequence[RequestRecord], pooled: PooledAcceptance
) -> Sequence[float | None]:
    """Returns the acceptance at each position, of the drafts that were proposed there.

    Near the end of a reply an engine may propose fewer than K drafts, and some methods do so anywhere. Such a step says
    nothing of the positions that it did not propose. Where the proposals of single steps are unknown, or are the nodes
    of a tree, every verify step is taken to have proposed K.
    """
    if pooled.acceptance_histogram is None:
        return ()
    draft_length = len(pooled.acceptance_histogram) - 1
    pairs = Counter((step.num_proposed, step.num_accepted) for record in records for step in record.steps[1:])
    known = {(p, a): n for (p, a), n in pairs.items() if p is not None and a is not None and p > 0}
    is_chain = (option(manifest.config, "spec", "topk") or 1) == 1
    if not is_chain or sum(known.values()) != pooled.verify_steps:
        return pooled.acceptance_conditional or ()
    rates: list[float | None] = []
    for position in range(1, draft_length + 1):
        tried = sum(n for (p, a), n in known.items() if p >= position and a >= position - 1)
        kept = sum(n for (p, a), n in known.items() if a >= position)
        rates.append(kept / tried if tried else None)
    return rates
