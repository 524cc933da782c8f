"""AIPerf: `profile_export.jsonl` has one line a request, with vLLM's counts; `inputs.json` has the prompts."""

from collections import Counter
from pathlib import Path

import msgspec

from specdec_bench.archive.imports.measured import (
    Imported,
    check_times,
    decode,
    fingerprint,
    make_record,
    read_bytes,
    refuse_unless,
    with_decode_steps,
)
from specdec_bench.archive.redact import redact_text
from specdec_bench.records.request import AcceptanceCounters, AcceptanceSource, Prompt, RequestError, RequestRecord

EXPORT, INPUTS = "profile_export.jsonl", "inputs.json"
WHAT = "a record of AIPerf's profile_export.jsonl (run aiperf with --export-level records)"


_NULL = msgspec.Raw(b"null")


class _Number(msgspec.Struct):
    value: float
    unit: str


class _Metrics(msgspec.Struct):
    time_to_first_token: _Number | None = None
    request_latency: _Number | None = None
    usage_prompt_tokens: _Number | None = None
    usage_completion_tokens: _Number | None = None
    input_sequence_length: _Number | None = None
    output_sequence_length: _Number | None = None


class _Metadata(msgspec.Struct):
    conversation_id: str
    request_start_ns: int
    turn_index: int = 0
    credit_issued_ns: int | None = None
    benchmark_phase: str = "profiling"
    was_cancelled: bool = False


class _Acceptance(msgspec.Struct):
    num_spec_steps: int
    num_draft_tokens: int
    num_accepted_draft_tokens: int
    num_spec_tokens: int
    completion_tokens: int | None = None
    per_step_accepted: tuple[int, ...] | None = None
    per_step_drafted: tuple[int, ...] | None = None


class _Error(msgspec.Struct):
    message: str = "no message"


class _Line(msgspec.Struct):
    metadata: _Metadata
    metrics: _Metrics
    spec_decode_acceptance: _Acceptance | None = None
    error: _Error | None = None


class _Message(msgspec.Struct):
    role: str = ""
    content: msgspec.Raw = _NULL


class _Payload(msgspec.Struct):
    prompt: msgspec.Raw = _NULL
    messages: list[_Message] | None = None
    model: str | None = None


class _Session(msgspec.Struct):
    session_id: str
    payloads: list[_Payload]


class _Inputs(msgspec.Struct):
    data: list[_Session]


_LINE, _INPUTS = msgspec.json.Decoder(_Line), msgspec.json.Decoder(_Inputs)


def read(folder: Path, *, is_plain: bool, drafts_always: bool) -> Imported:
    """Returns AIPerf's run.

    Args:
        folder: its artifact directory.
        is_plain: whether nothing was drafted.
        drafts_always: whether the method drafts in every step.

    Raises:
        ArchiveInputError: a file is missing, or is not AIPerf's.
    """
    path = folder / EXPORT
    data = read_bytes(path, "the folder that aiperf profile --output-artifact-dir wrote")
    lines = [
        (number, decode(line, _LINE, f"{path}: line {number}", WHAT))
        for number, line in enumerate(data.split(b"\n"), start=1)
        if line.strip()
    ]
    refuse_unless(bool(lines), str(path), "holds no request")
    sessions = _sessions(folder / INPUTS)
    model = next((p.model for s in sessions for p in s.payloads if p.model), None)
    names = {session.session_id: str(number) for number, session in enumerate(sessions)}
    for _, line in lines:
        names.setdefault(line.metadata.conversation_id, str(len(names)))
    has_counts = any(line.spec_decode_acceptance is not None for _, line in lines)
    refuse_unless(not (is_plain and has_counts), str(path), "has counts of speculation; with --method=none it has none")
    source: AcceptanceSource | None = None if is_plain else "engine_request" if has_counts else "engine_total"
    seen: Counter[tuple[str, int]] = Counter()
    requests = []
    for number, line in sorted(lines, key=lambda pair: pair[1].metadata.request_start_ns):
        key = names[line.metadata.conversation_id], line.metadata.turn_index
        where = f"{path}: line {number}"
        requests.append(_request(where, line, key, seen[key], source, drafts_always=drafts_always))
        seen[key] += line.metadata.benchmark_phase != "warmup"
    lengths = [line.spec_decode_acceptance.num_spec_tokens for _, line in lines if line.spec_decode_acceptance]
    own_count = any(line.error is None and line.metrics.usage_completion_tokens is None for _, line in lines)
    note = "the server told no usage: output tokens are those of AIPerf's own tokenizer"
    return Imported(
        tool="aiperf",
        path=path,
        sha256=fingerprint(data),
        model=model,
        prompts=tuple(_prompts(sessions, names, requests)),
        requests=tuple(requests),
        draft_length=max(lengths, default=None),
        notes=(note,) if own_count else (),
    )


def _sessions(path: Path) -> list[_Session]:
    if not path.is_file():
        return []
    return decode(read_bytes(path, "AIPerf's inputs.json"), _INPUTS, str(path), "AIPerf's inputs.json").data


def _prompts(sessions: list[_Session], names: dict[str, str], requests: list[RequestRecord]) -> list[Prompt]:
    """Returns the prompts of the requests, in AIPerf's own order. A prompt that no file has is empty."""
    texts = {names[session.session_id]: tuple(map(_text, session.payloads)) for session in sessions}
    used = {request.prompt_id: request.turn for request in requests}
    return [
        Prompt(prompt_id=name, category="imported", turns=texts.get(name) or ("",) * (used[name] + 1))
        for name in sorted(used, key=int)
    ]


def _text(payload: _Payload) -> str:
    content = payload.messages[-1].content if payload.messages else payload.prompt
    try:
        return msgspec.json.decode(content, type=str | None) or ""
    except ValueError:  # token ids, or parts of a message
        return bytes(content).decode(errors="replace")


def _request(
    where: str,
    line: _Line,
    key: tuple[str, int],
    repeat: int,
    source: AcceptanceSource | None,
    *,
    drafts_always: bool,
) -> RequestRecord:
    metadata, metrics, counts = line.metadata, line.metrics, line.spec_decode_acceptance
    error = None
    if metadata.was_cancelled:
        error = RequestError(kind="interrupted", message="AIPerf cancelled it")
    elif line.error is not None:
        error = RequestError(kind="engine_error", message=redact_text(line.error.message))
    ttft_ms, e2e_ms = _ms(where, metrics.time_to_first_token), _ms(where, metrics.request_latency)
    refuse_unless(error is not None or None not in (ttft_ms, e2e_ms), where, "has no TTFT or no latency, and no error")
    if ttft_ms is not None and e2e_ms is not None:
        check_times(where, ttft_ms, e2e_ms)
    output_length = _length(where, metrics.usage_completion_tokens or metrics.output_sequence_length)
    counters = None if counts is None or source is None else _counters(where, counts, output_length, drafts_always)
    return make_record(
        prompt_id=key[0],
        turn=key[1],
        repeat=repeat,
        sent_ns=metadata.request_start_ns,
        scheduled_ns=metadata.credit_issued_ns or metadata.request_start_ns,
        ttft_ms=ttft_ms,
        e2e_ms=e2e_ms,
        prompt_length=_length(where, metrics.usage_prompt_tokens or metrics.input_sequence_length),
        output_length=output_length,
        phase="warmup" if metadata.benchmark_phase == "warmup" else "measure",
        source=source,
        counters=counters,
        error=error,
    )


def _ms(where: str, number: _Number | None) -> float | None:
    if number is None:
        return None
    refuse_unless(number.unit == "ms", where, f"a time is in {number.unit!r}, not in ms")
    return number.value


def _length(where: str, number: _Number | None) -> int:
    length = 0 if number is None else number.value
    refuse_unless(0 <= length < 2**31 and length == int(length), where, f"{length:g} is not a number of tokens")
    return int(length)


def _counters(where: str, counts: _Acceptance, output_length: int, drafts_always: bool) -> AcceptanceCounters:
    """Returns vLLM's counts of a request.

    Raises:
        ArchiveInputError: its steps do not add up to its totals.
    """
    accepted, drafted = counts.per_step_accepted, counts.per_step_drafted
    if accepted is not None and drafted is not None:
        told = (counts.num_spec_steps, counts.num_accepted_draft_tokens, counts.num_draft_tokens)
        summed = (len(accepted), sum(accepted), sum(drafted))
        is_possible = all(0 <= a <= d for a, d in zip(accepted, drafted, strict=False))
        refuse_unless(
            told == summed and len(drafted) == len(accepted) and is_possible,
            where,
            f"its steps add up to {summed}, its totals (steps, accepted, drafted) are {told}",
        )
    counters = AcceptanceCounters(
        num_verify_steps=counts.num_spec_steps,
        num_accepted=counts.num_accepted_draft_tokens,
        num_proposed=counts.num_draft_tokens,
        per_step_proposed=drafted,
        per_step_accepted=accepted,
    )
    return with_decode_steps(counters, output_length, drafts_always=drafts_always)
