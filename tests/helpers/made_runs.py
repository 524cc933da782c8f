"""Runs made by hand: their requests, with times that a person can add up, and their manifests."""

from typing import Any

from specdec_bench.records.manifest import Manifest
from specdec_bench.records.request import ErrorKind, RequestError, RequestRecord, Step
from tests.helpers import build

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
        "scheduled_ns": sent,
        "sent_ns": sent,
        "acceptance_source": "engine_request",
    }
    return build.request(**({"steps": steps} | values | changes))


def failure(kind: ErrorKind) -> RequestError:
    """How a request ended that came to nothing."""
    return RequestError(kind=kind, message="m")


def manifest(**changes: Any) -> Manifest:
    """A finished run of spec=ngram with 3 drafts, one request in flight."""
    config = {"spec": {"name": "ngram", "draft_length": 3}, "load": {"concurrency": 1}}
    return build.manifest(**({"config": config} | changes))
