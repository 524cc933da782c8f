"""Runs made by hand: their requests, with times that a person can add up, and their manifests."""

from typing import Any

from specdec_bench.records.manifest import Manifest
from specdec_bench.records.request import ErrorKind, RequestError, RequestRecord, Step

S = 1_000_000_000
"""A second in nanoseconds."""


def request(number: int, *accepted: int, **changes: Any) -> RequestRecord:
    """Sent at second 10 x number; the prefill's token 1 s later, then a step a second with 3 drafts each."""
    sent = 10 * number * S
    steps = [Step(received_ns=sent + S, num_tokens=1, num_proposed=0, num_accepted=0)]
    for i, count in enumerate(accepted, start=2):
        steps.append(Step(received_ns=sent + i * S, num_tokens=count + 1, num_proposed=3, num_accepted=count))
    values: dict[str, Any] = {
        "request_id": f"r{number}",
        "prompt_id": f"p{number}",
        "category": "writing",
        "turn": 0,
        "repeat": 0,
        "phase": "measure",
        "scheduled_ns": sent,
        "sent_ns": sent,
        "prompt_token_ids": (1,),
        "output_token_ids": (7,) * sum(step.num_tokens for step in steps),
        "steps": tuple(steps),
        "acceptance_source": "engine_request",
        "finish_reason": "length",
    }
    return RequestRecord(**(values | changes))


def failure(kind: ErrorKind) -> RequestError:
    """How a request ended that came to nothing."""
    return RequestError(kind=kind, message="m")


def manifest(**changes: Any) -> Manifest:
    """A finished run of spec=ngram with 3 drafts, one request in flight."""
    values: dict[str, Any] = {
        "schema_version": 1,
        "run_id": "run-1",
        "status": "finished",
        "created_utc": "2026-01-02T03:04:05+00:00",
        "command": (),
        "overrides": (),
        "config": {"spec": {"name": "ngram", "draft_length": 3}, "load": {"concurrency": 1}},
        "project": {},
    }
    return Manifest(**(values | changes))
