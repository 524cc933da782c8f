"""One side of a comparison: the runs of one cell, each read in one pass."""

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
import numpy as np

from specdec_bench.archive.layout import RunDirectory
from specdec_bench.compare import losslessness
from specdec_bench.compare.headline import RATIOS
from specdec_bench.compare.speedup import Key, RunTimes
from specdec_bench.metrics.acceptance import request_acceptance
from specdec_bench.metrics.arrays import Floats
from specdec_bench.metrics.definitions import DEFINITIONS
from specdec_bench.metrics.summary import summarize
from specdec_bench.records.manifest import Manifest
from specdec_bench.records.request import RequestRecord
from specdec_bench.records.summary import Summary


@dataclass(frozen=True, kw_only=True)
class RequestTerms:
    """The finished requests of a run, as arrays."""

    keys: list[Key]
    terms: Floats
    """(requests, ratios, 2): numerator and denominator of each metric of `RATIOS`."""
    ttft_ms: Floats
    """(requests,)."""


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """A finished run, read for a comparison."""

    run: RunDirectory
    manifest: Manifest
    summary: Summary
    requests: RequestTerms
    times: RunTimes
    outputs: losslessness.Outputs


def read_run(run: RunDirectory, *, cuts_last_step: bool = False) -> ComparedRun:
    """Returns a finished run.

    Args:
        run: its directory.
        cuts_last_step: whether the counts of drafts leave out the last step of each request; see `request_terms`.

    Raises:
        ArchiveError: a file of it is missing or broken.
    """
    manifest, summary = run.manifest(), run.summary()
    records = list(run.requests())
    if summary.definitions != DEFINITIONS:  # written by another release
        summary = summarize(records, manifest)
    records = [record for record in records if record.phase == "measure"]
    times = RunTimes(records)
    return ComparedRun(
        run=run,
        manifest=manifest,
        summary=summary,
        requests=request_terms(records, times, cuts_last_step=cuts_last_step),
        times=times,
        outputs=losslessness.outputs(records),
    )


def request_terms(records: Iterable[RequestRecord], times: RunTimes, *, cuts_last_step: bool = False) -> RequestTerms:
    """Returns the terms of each finished request.

    Engines count the last verify step of a request differently: some propose no more tokens than may still be
    emitted, others propose as many as ever. Metrics of drafts are compared between engines without that step. They are
    undefined if it is not known.

    Args:
        records: of the measured window.
        times: of the same requests.
        cuts_last_step: whether to leave out that step.
    """
    keys: list[Key] = []
    terms: list[list[tuple[float, float]]] = []
    ttft_ms: list[float] = []
    for record in records:
        key = (record.prompt_id, record.turn, record.repeat)
        times_of = times.requests.get(key)
        if times_of is None:  # it did not finish
            continue
        counts = request_acceptance(record)
        if cuts_last_step and record.acceptance_source is not None:
            whole, counts = counts, request_acceptance(_without_last_step(record))
            counts = msgspec.structs.replace(counts, output_tokens=whole.output_tokens, decode_steps=whole.decode_steps)
        keys.append(key)
        terms.append([terms_of(counts, times_of) for terms_of in RATIOS.values()])
        ttft_ms.append(times_of.ttft_ms)
    return RequestTerms(
        keys=keys,
        terms=np.array(terms, dtype=np.float64).reshape(len(keys), len(RATIOS), 2),
        ttft_ms=np.array(ttft_ms, dtype=np.float64),
    )


def _without_last_step(record: RequestRecord) -> RequestRecord:
    """Returns a request without its last decode step, and without counters, which hold it."""
    has_steps = len(record.steps) > 1
    return msgspec.structs.replace(record, steps=record.steps[:-1] if has_steps else record.steps, counters=None)
