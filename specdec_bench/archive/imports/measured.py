"""What every importer reads out of another tool's file, and how it becomes the record of a request."""

import hashlib
from pathlib import Path
from typing import TypeVar

import msgspec

from specdec_bench.errors import ArchiveInputError, first_line
from specdec_bench.records.request import (
    AcceptanceCounters,
    AcceptanceSource,
    Phase,
    Prompt,
    RequestError,
    RequestRecord,
    Step,
)

T = TypeVar("T")

MOST_BYTES = 4 * 2**30
NS_PER_MS = 1e6


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """One run of another tool."""

    tool: str
    path: Path
    sha256: str
    """Of the file."""
    model: str | None
    prompts: tuple[Prompt, ...]
    requests: tuple[RequestRecord, ...]
    draft_length: int | None = None
    totals: AcceptanceCounters | None = None
    """The server's counters over the run, where the tool read them."""
    notes: tuple[str, ...] = ()
    """What distorts its metrics."""


def read_bytes(path: Path, what: str) -> bytes:
    """Returns a file's content.

    Raises:
        ArchiveInputError: it is not there, is too large, or cannot be read; `what` says what it should be.
    """
    try:
        if not path.is_file():  # reading a pipe waits for ever
            raise ArchiveInputError(f"{path}: no such file; give {what}")
        if (size := path.stat().st_size) > MOST_BYTES:
            raise ArchiveInputError(f"{path}: has {size:,} bytes; at most {MOST_BYTES:,} are read")
        return path.read_bytes()
    except OSError as error:
        raise ArchiveInputError(f"{path}: cannot be read: {error.strerror}; give {what}") from error


def decode(data: bytes, decoder: "msgspec.json.Decoder[T]", where: str, what: str) -> T:
    """Returns decoded JSON.

    Raises:
        ArchiveInputError: it is none, or not that of the tool.
    """
    try:
        return decoder.decode(data)
    except (ValueError, RecursionError) as error:
        raise ArchiveInputError(f"{where}: is not {what}: {first_line(error)}") from None


def refuse_unless(condition: bool, where: str, reason: str) -> None:
    """Raises ArchiveInputError, naming the place, unless the condition holds."""
    if not condition:
        raise ArchiveInputError(f"{where}: {reason}")


def fingerprint(data: bytes) -> str:
    """Returns the sha256 of a file's content."""
    return hashlib.sha256(data).hexdigest()


def make_record(
    *,
    prompt_id: str,
    turn: int,
    repeat: int,
    sent_ns: int,
    scheduled_ns: int,
    ttft_ms: float | None,
    e2e_ms: float | None,
    prompt_length: int,
    output_length: int,
    phase: Phase = "measure",
    source: AcceptanceSource | None,
    counters: AcceptanceCounters | None = None,
    error: RequestError | None = None,
) -> RequestRecord:
    """Returns a request of which only the first and the last token have a time.

    The first token is a step of its own; all others are one chunk at the time of the last, which is marked as merged,
    so that it gives no step time.
    """
    steps: tuple[Step, ...] = ()
    if ttft_ms is not None and output_length:
        steps = (Step(received_ns=sent_ns + round(ttft_ms * NS_PER_MS), num_tokens=1),)
        if e2e_ms is not None and output_length > 1:
            steps += (Step(received_ns=sent_ns + round(e2e_ms * NS_PER_MS), num_tokens=output_length - 1),)
    return RequestRecord(
        request_id=f"{prompt_id}/{turn}/{repeat}",
        prompt_id=prompt_id,
        category="imported",
        turn=turn,
        repeat=repeat,
        phase=phase,
        scheduled_ns=scheduled_ns,
        sent_ns=sent_ns,
        prompt_token_ids=(),
        prompt_length=prompt_length,
        output_length=output_length,
        steps=steps,
        counters=counters,
        acceptance_source=source,
        error=error,
    )


def check_times(where: str, ttft_ms: float, e2e_ms: float) -> None:
    """Refuses times that no request has.

    Raises:
        ArchiveInputError: one is negative or no number, or the last token came before the first.
    """
    refuse_unless(0 <= ttft_ms <= e2e_ms < 1e12, where, f"TTFT {ttft_ms:g} ms and latency {e2e_ms:g} ms make no sense")


def with_decode_steps(counters: AcceptanceCounters, output_length: int, *, drafts_always: bool) -> AcceptanceCounters:
    """Returns the counters with the number of decode steps, where it follows from them.

    A method that drafts in every step has as many decode steps as verify steps, if these emitted all tokens. Others
    have steps without drafts, which no response counts.
    """
    if not drafts_always or counters.num_verify_steps is None or counters.num_accepted is None:
        return counters
    emitted = counters.num_accepted + counters.num_verify_steps
    if emitted < output_length - 1:  # some steps had no draft: near the end of the context, under a grammar
        return counters
    return msgspec.structs.replace(counters, num_decode_steps=counters.num_verify_steps)
