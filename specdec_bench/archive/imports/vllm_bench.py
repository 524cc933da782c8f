"""`vllm bench serve --save-result --save-detailed`: one JSON file, with lists that have one entry a request."""

import itertools
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
from specdec_bench.errors import ArchiveInputError
from specdec_bench.records.request import AcceptanceCounters, AcceptanceSource, Prompt, RequestError

WHAT = "a result of vllm bench serve --save-result --save-detailed"
NS_PER_S = 1e9


class _Result(msgspec.Struct):
    model_id: str | None = None
    ttfts: list[float] | None = None
    itls: list[list[float]] | None = None
    input_lens: list[int] | None = None
    output_lens: list[int] | None = None
    start_times: list[float] | None = None
    errors: list[str | None] | None = None
    queue_times: list[float] | None = None
    spec_decode_num_drafts: int | None = None
    spec_decode_draft_tokens: int | None = None
    spec_decode_accepted_tokens: int | None = None
    spec_decode_per_position_acceptance_rates: list[float] | None = None


_DECODER = msgspec.json.Decoder(_Result)


def read(path: Path, *, is_plain: bool, drafts_always: bool) -> Imported:
    """Returns the run.

    The acceptance is the server's own over the run, from its counters: `engine_total`. A request was due its queue time
    before it was sent; releases that do not record that count it as due when it was sent.

    Args:
        path: the file.
        is_plain: whether nothing was drafted.
        drafts_always: whether the method drafts in every step.

    Raises:
        ArchiveInputError: the file is missing, or is not the benchmark's, or has no single requests.
    """
    data = read_bytes(path, f"the file of {WHAT.removeprefix('a result of ')}")
    result, where = decode(data, _DECODER, str(path), WHAT), str(path)
    ttfts, itls, starts = result.ttfts, result.itls, result.start_times
    inputs, outputs, errors = result.input_lens, result.output_lens, result.errors
    if ttfts is None or itls is None or inputs is None or outputs is None or errors is None or starts is None:
        raise ArchiveInputError(f"{where}: has no single requests; run vllm bench serve with --save-detailed")
    waits = result.queue_times or [0.0] * len(ttfts)
    lengths = {len(waits), len(ttfts), len(itls), len(inputs), len(outputs), len(errors), len(starts)}
    refuse_unless(len(lengths) == 1, where, "its lists have different lengths")
    refuse_unless(bool(ttfts), where, "holds no request")
    is_contradicted = is_plain and bool(result.spec_decode_num_drafts)
    refuse_unless(not is_contradicted, where, "has counts of speculation; with --method=none it has none")
    source: AcceptanceSource | None = None if is_plain else "engine_total"
    requests = []
    for number, (ttft_s, gaps_s, error) in enumerate(zip(ttfts, itls, errors, strict=True)):
        place = f"{where}: request {number}"
        ttft_ms, e2e_ms = ttft_s * 1e3, (ttft_s + sum(gaps_s)) * 1e3
        check_times(place, ttft_ms, e2e_ms)
        refuse_unless(0 <= outputs[number] < 2**31 and 0 <= inputs[number] < 2**31, place, "a length makes no sense")
        refuse_unless(0 <= starts[number] < 1e12, place, "its start makes no sense")
        refuse_unless(0 <= waits[number] < 1e9, place, "its queue time makes no sense")
        sent_ns = round(starts[number] * NS_PER_S)
        record = make_record(
            prompt_id=str(number),
            turn=0,
            repeat=0,
            sent_ns=sent_ns,
            scheduled_ns=sent_ns - round(waits[number] * NS_PER_S),
            ttft_ms=None if error else ttft_ms,
            e2e_ms=None if error else e2e_ms,
            prompt_length=inputs[number],
            output_length=outputs[number],
            source=source,
            error=RequestError(kind="engine_error", message=redact_text(error)) if error else None,
        )
        requests.append(record)
    num_failed, num_output = sum(map(bool, errors)), sum(outputs) - len(outputs)
    totals = None if is_plain or num_failed else _totals(where, result)
    if totals is not None:
        totals = with_decode_steps(totals, num_output + 1, drafts_always=drafts_always)
    rates = result.spec_decode_per_position_acceptance_rates
    return Imported(
        tool="vllm_bench",
        path=path,
        sha256=fingerprint(data),
        model=result.model_id,
        prompts=tuple(Prompt(prompt_id=str(n), category="imported", turns=("",)) for n in range(len(ttfts))),
        requests=tuple(requests),
        draft_length=len(rates) if rates else None,
        totals=totals,
        notes=("requests failed: the server's counters hold theirs too, so acceptance is null",) if num_failed else (),
    )


def _totals(where: str, result: _Result) -> AcceptanceCounters | None:
    """Returns the server's counters over the run; None if the benchmark had none."""
    steps, accepted = result.spec_decode_num_drafts, result.spec_decode_accepted_tokens
    if steps is None or accepted is None:
        return None
    rates = result.spec_decode_per_position_acceptance_rates
    histogram = None
    if rates is not None:
        at_least = [steps, *(round(rate * steps) for rate in rates), 0]
        histogram = tuple(more - fewer for more, fewer in itertools.pairwise(at_least))
        is_possible = min(histogram, default=0) >= 0 and sum(at_least[1:]) == accepted
        refuse_unless(is_possible, where, "its acceptance by position does not add up to the accepted tokens")
    return AcceptanceCounters(
        num_verify_steps=steps,
        num_accepted=accepted,
        num_proposed=result.spec_decode_draft_tokens,
        histogram=histogram,
    )
