"""Run directories written by hand, with requests whose every time and count is chosen."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from specdec_bench.archive import codec
from specdec_bench.archive.layout import Response, RunDirectory
from specdec_bench.compare.cell import SweepResult
from specdec_bench.compare.rows import collect
from specdec_bench.metrics.summary import encode, summarize
from specdec_bench.records.manifest import LoadLabel
from specdec_bench.records.request import Prompt, RequestRecord, Step
from tests.helpers.archive_samples import CONFIG, CONFIG_YAML, make_manifest, make_prompt, make_request

MS = 1_000_000
"""A millisecond in nanoseconds."""


def load_label(concurrency: int) -> LoadLabel:
    return LoadLabel(
        axis="concurrency",
        value=concurrency,
        title="requests in flight",
        unit="in flight",
        max_in_flight=concurrency,
    )


def steps_of(accepted: Sequence[int], *, step_ms: float = 10.0, draft_length: int = 3) -> tuple[Step, ...]:
    """Returns the prefill's step at 100 ms and one step for each count of accepted drafts."""
    steps = [Step(received_ns=100 * MS, num_tokens=1, num_proposed=0, num_accepted=0)]
    for number, count in enumerate(accepted, start=1):
        at = 100 * MS + round(number * step_ms * MS)
        steps.append(Step(received_ns=at, num_tokens=count + 1, num_proposed=draft_length, num_accepted=count))
    return tuple(steps)


def reply(prompt: Prompt, accepted: Sequence[int], *, turn: int = 0, **changes: Any) -> RequestRecord:
    """Returns a request sent at 0, whose tokens are 65, 66, ... (A, B, ... as characters)."""
    steps = changes.pop("steps", None) or steps_of(accepted)
    num_tokens = sum(step.num_tokens for step in steps)
    values: dict[str, Any] = {
        "request_id": f"{prompt.prompt_id}/{turn}/0",
        "prompt_id": prompt.prompt_id,
        "category": prompt.category,
        "turn": turn,
        "scheduled_ns": 0,
        "sent_ns": 0,
        "steps": steps,
        "output_token_ids": tuple(65 + index % 26 for index in range(num_tokens)),
        "acceptance_source": "engine_request",
    }
    return make_request(**(values | changes))


def text_of(record: RequestRecord) -> str:
    return "".join(map(chr, record.output_token_ids))


def write_run(
    folder: Path,
    records: Sequence[RequestRecord],
    prompts: Sequence[Prompt] | None = None,
    *,
    spec: str = "ngram",
    draft_length: int = 3,
    concurrency: int = 1,
    replicate: int = 0,
    text: Callable[[RequestRecord], str] = text_of,
    has_token_lengths: bool = True,
    **changes: Any,
) -> RunDirectory:
    """Writes a finished run whose plain run is the one of `spec="none"` at the same concurrency."""
    config = copy.deepcopy(CONFIG) | changes.pop("config", {})
    config["spec"] = {"name": spec} | ({} if spec == "none" else {"draft_length": draft_length})
    config["load"] = {"name": "closed", "concurrency": concurrency}
    config["replicate"] = replicate
    values: dict[str, Any] = {
        "status": "finished",
        "config": config,
        "load": load_label(concurrency),
        "cell_id": f"{spec} {draft_length} {concurrency} {replicate}",
        "baseline_id": f"plain {concurrency}",
        "environment_id": "e",
        "overrides": (f"spec={spec}",),
    }
    manifest = make_manifest(**(values | changes))
    prompts = [make_prompt(number) for number in range(2)] if prompts is None else prompts
    run = RunDirectory.create(folder, make_manifest(config=config), prompts, CONFIG_YAML)
    run.requests_path.write_bytes(b"".join(map(codec.encode_line, records)))
    responses = []
    for record in records:
        if record.phase == "measure" and record.error is None:
            said = text(record)
            is_split = has_token_lengths and len(said) == len(record.output_token_ids)
            responses.append(
                Response(
                    request_id=record.request_id,
                    prompt_id=record.prompt_id,
                    turn=record.turn,
                    repeat=record.repeat,
                    text=said,
                    token_lengths=(1,) * len(said) if is_split else None,
                    first_chunk_length=record.steps[0].num_tokens if is_split and record.steps else None,
                )
            )
    run.write_responses(responses)
    run.write_summary(encode(summarize(records, manifest)))
    run.write_manifest(manifest)
    return run


def plain(record: RequestRecord, *, step_ms: float = 10.0) -> RequestRecord:
    """Returns the same reply by plain decoding."""
    num_tokens = len(record.output_token_ids)
    steps = tuple(
        Step(received_ns=round((100 + step_ms * number) * MS), num_tokens=1, num_proposed=0, num_accepted=0)
        for number in range(num_tokens)
    )
    changed: dict[str, Any] = {"steps": steps, "acceptance_source": None}
    return make_request(
        **{name: getattr(record, name) for name in record.__struct_fields__ if name not in changed}, **changed
    )


def collected(runs: Sequence[RunDirectory]) -> tuple[SweepResult, dict[int, RunDirectory]]:
    """Returns what a sweep of these runs shows, and the runs by job number."""
    by_job = dict(enumerate(runs))
    return collect(list(by_job.items())), by_job
