"""Archived requests as a pandas DataFrame, one row per request."""

import logging
import math
from pathlib import Path
from typing import Final

import pandas as pd
from msgspec.structs import asdict
from pandas.api.extensions import ExtensionDtype

from specdec_bench.archive.sweep_plan import find_runs
from specdec_bench.errors import ArchiveInputError
from specdec_bench.metrics.acceptance import request_acceptance
from specdec_bench.metrics.timing import request_times
from specdec_bench.records.labels import run_labels
from specdec_bench.records.manifest import Manifest
from specdec_bench.records.request import RequestRecord

logger = logging.getLogger(__name__)

_COUNTS = ("num_decode_steps", "num_verify_steps", "num_proposed", "num_accepted")
_STRING: Final = pd.StringDtype(storage="python")
"""Not pyarrow's, which refuses the lone surrogates that datasets hold."""

COLUMNS: Final[dict[str, ExtensionDtype | str]] = {
    "run_id": _STRING,
    "run_dir": _STRING,
    "status": _STRING,
    "engine": _STRING,
    "model": _STRING,
    "dataset": _STRING,
    "spec": _STRING,
    "draft_length": "Int64",
    "draft_lengths": _STRING,
    "concurrency": "Int64",
    "load_axis": _STRING,
    "load_value": "Float64",
    "temperature": "Float64",
    "seed": "Int64",
    "request_id": _STRING,
    "prompt_id": _STRING,
    "category": _STRING,
    "turn": "Int64",
    "repeat": "Int64",
    "phase": _STRING,
    "num_prompt_tokens": "Int64",
    "num_output_tokens": "Int64",
    "ttft_ms": "float64",
    "e2e_ms": "float64",
    "tpot_ms": "float64",
    "queue_time_ms": "float64",
    "ttft_from_schedule_ms": "float64",
    "e2e_from_schedule_ms": "float64",
    "acceptance_length": "float64",
    "acceptance_source": _STRING,
    "num_decode_steps": "Int64",
    "num_verify_steps": "Int64",
    "num_proposed": "Int64",
    "num_accepted": "Int64",
    "finish_reason": _STRING,
    "num_preemptions": "Int64",
    "error": _STRING,
    "prompt_token_ids": "object",
    "output_token_ids": "object",
    "step_received_ns": "object",
    "step_num_tokens": "object",
    "step_num_proposed": "object",
    "step_num_accepted": "object",
}
"""Every column in order, with its dtype. Those of dtype object hold a list in each row."""


def load(path: str | Path) -> pd.DataFrame:
    """Returns the requests of one run directory, or of every run below a folder, one row per request.

    Warm-up and failed requests are included: see `phase`, `error` and the run's `status`. Undefined values are
    <NA>, or NaN in the columns of durations and of acceptance length. Runs are sorted by the names of their folders,
    requests by when they finished.

    - `run_dir` is relative to `path`; "." if `path` is the run.
    - `engine`, `model`, `dataset`, `spec`, `draft_length`, `concurrency`, `temperature` and `seed` come from
      the experiment's archived configuration. Each request's own seed is derived from `seed`. `draft_lengths` has
      the largest and the smallest draft length, such as 5..0, if it followed the batch size.
      `concurrency` is undefined under an open load. `load_axis` and `load_value` are defined for any load, such as
      concurrency and 16, or rate and 2.5 conversations per second.
    - `ttft_ms`, `e2e_ms` and `tpot_ms`: time to the first chunk that has tokens, time to the last, and
      (e2e - ttft) / (output tokens - tokens in that first chunk). A failed request has no e2e and no tpot,
      because it did not reach its last token.
    - `queue_time_ms` is the time from when a request was due to when it was sent. `ttft_from_schedule_ms` and
      `e2e_from_schedule_ms` count from when it was due. Under a closed load a request is due when it is sent.
    - `acceptance_length`, `num_decode_steps`, `num_verify_steps`, `num_proposed` and `num_accepted` are those of
      the request alone, counted by `acceptance_source`. With `stream` the first is an upper bound and the last
      three are undefined. With `engine_total`, and for a failed request, all five are undefined. Plain decoding
      verifies nothing, and its length is 1.
    - `num_preemptions` is undefined if the engine does not report it.
    - `step_*` hold one entry per chunk as received, the prefill's first; None if the engine does not report it.
    - `attrs["torn_lines"]`: requests left out because their process was killed while it wrote them.
    - `attrs["not_taken"]`: one line for each run that was left out. From a planned sweep only the runs of its cells
      are loaded, one per cell, wherever they lie below its folder.

    Raises:
        ArchiveError: nothing below the path is a run, or one of the runs cannot be read.
    """
    root = Path(path)
    columns: dict[str, list[object]] = {name: [] for name in COLUMNS}
    torn_lines = 0
    found = find_runs(root)
    for run in found.runs.values():
        manifest = run.manifest()
        of_run = _run_values(manifest, run.path.relative_to(root).as_posix())
        for record in run.requests():
            for name, value in (of_run | _request_values(record)).items():
                columns[name].append(value)
        torn_lines += run.torn_lines()
    if not found.runs:
        raise ArchiveInputError(
            f"{root}: no run directory in it or below it; give a folder that a run or a sweep wrote"
        )
    frame = pd.DataFrame({name: pd.Series(columns[name], dtype=dtype) for name, dtype in COLUMNS.items()})
    frame.attrs["torn_lines"], frame.attrs["not_taken"] = torn_lines, found.not_taken
    for line in found.not_taken:
        logger.warning("%s", line)
    if torn_lines:
        logger.warning("%s: left out %d requests that were cut off by the end of their process", root, torn_lines)
    return frame


def _run_values(manifest: Manifest, run_dir: str) -> dict[str, object]:
    return {
        "run_id": manifest.run_id,
        "run_dir": run_dir,
        "status": manifest.status,
        **asdict(run_labels(manifest)),
    }


def _request_values(record: RequestRecord) -> dict[str, object]:
    return {
        "request_id": record.request_id,
        "prompt_id": record.prompt_id,
        "category": record.category,
        "turn": record.turn,
        "repeat": record.repeat,
        "phase": record.phase,
        "num_prompt_tokens": record.num_prompt_tokens,
        "num_output_tokens": record.num_output_tokens,
        **_latency(record),
        **_acceptance(record),
        "acceptance_source": record.acceptance_source,
        "finish_reason": record.finish_reason,
        "num_preemptions": record.num_preemptions,
        "error": None if record.error is None else f"{record.error.kind}: {record.error.message}",
        "prompt_token_ids": list(record.prompt_token_ids),
        "output_token_ids": list(record.output_token_ids),
        "step_received_ns": [step.received_ns for step in record.steps],
        "step_num_tokens": [step.num_tokens for step in record.steps],
        "step_num_proposed": [step.num_proposed for step in record.steps],
        "step_num_accepted": [step.num_accepted for step in record.steps],
    }


def _latency(record: RequestRecord) -> dict[str, float]:
    """Returns the times of one request in milliseconds, NaN where undefined."""
    names = ("ttft_ms", "e2e_ms", "tpot_ms", "queue_time_ms", "ttft_from_schedule_ms", "e2e_from_schedule_ms")
    found, times = dict.fromkeys(names, math.nan), request_times(record)
    if times is None:
        return found
    found |= {
        "ttft_ms": times.ttft_ms,
        "queue_time_ms": times.queue_ms,
        "ttft_from_schedule_ms": times.ttft_from_schedule_ms,
    }
    if record.error is not None:  # it did not reach its end
        return found
    return found | {
        "e2e_ms": times.e2e_ms,
        "tpot_ms": math.nan if times.tpot_ms is None else times.tpot_ms,
        "e2e_from_schedule_ms": times.e2e_from_schedule_ms,
    }


def _acceptance(record: RequestRecord) -> dict[str, int | float | None]:
    """Returns the counts of one request and its acceptance length, as the summary counts them; None where undefined."""
    if record.error is not None or not record.output_token_ids:
        return {"acceptance_length": math.nan, **dict.fromkeys(_COUNTS)}
    counts = request_acceptance(record)
    # Plain decoding is known to verify nothing; with a stream or a total, missing counts are unknown.
    unknown = 0 if record.acceptance_source is None else None
    steps = counts.decode_steps
    told = (steps, counts.verify_steps, counts.proposed, counts.accepted)
    return {
        "acceptance_length": (counts.output_tokens - 1) / steps if steps else math.nan,
        **{name: unknown if count is None else count for name, count in zip(_COUNTS, told, strict=True)},
    }
