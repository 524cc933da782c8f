"""A server that streams completions as vLLM does, with known counts.

    python -m tests.helpers.mock_completions [FAULT]

It prints its port, and answers until it is killed. Load generators of other projects are run against it, to get files
that they really write; and it stands in for a vLLM server that runs already. FAULT is one of `FAULTS`.
"""

import asyncio
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.helpers.mock_http import (
    DRAFT_LENGTH,
    FAULT,
    FAULTY_FROM,
    STEP_S,
    merge,
    serve,
    steps,
    write_answer,
    write_chunk,
)

TTFT_S = 0.01
MODEL = os.environ.get("MOCK_MODEL", "mock")
WORD = os.environ.get("MOCK_WORD", " word")
"""The text of each token."""
ELSEWHERE = os.environ.get("MOCK_ELSEWHERE", "http://127.0.0.1:1/elsewhere")
"""Where the fault `redirect` leads."""
FAULTS = (
    "dies",
    "freezes",
    "error_event",
    "cut",
    "no_usage",
    "no_counts",
    "no_ids",
    "garbage",
    "redirect",
    "refuses",
    "plain",
    "merged",
)
_numbers = itertools.count(1)


def events(request: dict[str, Any], num_prompt_tokens: int) -> Iterator[dict[str, Any]]:
    """Yields the events of a request: one for the prefill, one for each step or two, one with usage and counts."""
    limit = int(request.get("max_tokens") or 16)
    return events_of(steps(limit), limit, num_prompt_tokens, request["model"])


def events_of(per_step: list[int], limit: int, num_prompt_tokens: int, model: str) -> Iterator[dict[str, Any]]:
    """Yields the events of a request of so many tokens whose steps accept these numbers of drafts."""
    head = {"id": "cmpl-mock", "object": "text_completion", "created": 1, "model": model}
    sizes = [1, *(accepted + 1 for accepted in per_step)]
    sizes[-1] -= sum(sizes) - limit
    if FAULT == "merged":
        sizes = merge(sizes)
    for number, size in enumerate(sizes):
        is_last = number == len(sizes) - 1
        choice = {"index": 0, "text": WORD * size, "logprobs": None, "finish_reason": "length" if is_last else None}
        yield {**head, "choices": [choice | {"stop_reason": None, "token_ids": [7] * size}]}
    histogram = [per_step.count(number) for number in range(DRAFT_LENGTH + 1)]
    speculative = {
        "mean_acceptance_length": 1 + sum(per_step) / max(len(per_step), 1),
        "draft_acceptance_rate": sum(per_step) / max(DRAFT_LENGTH * len(per_step), 1),
        "acceptance_histogram": histogram,
        "num_spec_steps": len(per_step),
        "num_accepted_draft_tokens": sum(per_step),
        "num_draft_tokens": DRAFT_LENGTH * len(per_step),
        "num_spec_tokens": DRAFT_LENGTH,
        "per_step_accepted": per_step,
        "per_step_drafted": [DRAFT_LENGTH] * len(per_step),
    }
    usage = {"prompt_tokens": num_prompt_tokens, "completion_tokens": limit, "total_tokens": num_prompt_tokens + limit}
    yield {**head, "choices": [], "usage": usage, "metrics": {"speculative_decoding": speculative}}


TOTALS = dict.fromkeys(("drafts", "draft_tokens", "accepted_tokens"), 0)
PER_POSITION = [0] * DRAFT_LENGTH


def count(per_step: list[int]) -> None:
    """Adds a request to what /metrics tells."""
    TOTALS["drafts"] += len(per_step)
    TOTALS["draft_tokens"] += DRAFT_LENGTH * len(per_step)
    TOTALS["accepted_tokens"] += sum(per_step)
    for position in range(DRAFT_LENGTH):
        PER_POSITION[position] += sum(accepted > position for accepted in per_step)


def metrics() -> bytes:
    """Returns the counters of vLLM's /metrics that are about speculation."""
    if FAULT == "plain":
        return b"vllm:num_requests_running 0.0\n"
    return prometheus(TOTALS, PER_POSITION)


def prometheus(totals: Mapping[str, int], per_position: Sequence[int]) -> bytes:
    """Returns counters as vLLM's /metrics has them."""
    prefix = "vllm:spec_decode_num"
    lines = [f'{prefix}_{name}_total{{model_name="mock"}} {value}.0' for name, value in totals.items()]
    name = f"{prefix}_accepted_tokens_per_pos_total"
    lines += [f'{name}{{model_name="mock",position="{n}"}} {value}.0' for n, value in enumerate(per_position)]
    return ("\n".join(lines) + "\n").encode()


def about(path: str) -> bytes | None:
    """Returns what a GET of this path tells of the server; None if there is no such path."""
    models = {"object": "list", "data": [{"id": MODEL, "object": "model", "max_model_len": 2048}]}
    told = {"/v1/models": models, "/version": {"version": "0.32.0"}, "/health": {}}.get(path)
    return None if told is None else json.dumps(told).encode()


async def respond(writer: asyncio.StreamWriter, method: str, path: str, body: bytes) -> None:
    if (method, path) == ("POST", "/v1/completions"):
        await _complete(writer, json.loads(body))
    elif method == "GET" and (told := metrics() if path == "/metrics" else about(path)) is not None:
        write_answer(writer, 200, told)
    else:
        write_answer(writer, 404, b'{"detail":"Not Found"}')


async def _complete(writer: asyncio.StreamWriter, request: dict[str, Any]) -> None:
    fault = FAULT if next(_numbers) >= FAULTY_FROM or FAULT in ("no_counts", "no_ids", "plain") else ""
    if fault == "dies":
        os._exit(1)
    if fault == "redirect":
        write_answer(writer, 307, b"", b"location: %s\r\n" % ELSEWHERE.encode())
    elif fault == "refuses":
        write_answer(writer, 400, b'{"error":{"message":"the prompt is too long","type":"BadRequestError","code":400}}')
    elif fault == "garbage":
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    else:
        await _stream(writer, request, fault)


async def _stream(writer: asyncio.StreamWriter, request: dict[str, Any], fault: str) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    prompt = request.get("prompt", "")
    num_prompt_tokens = len(prompt) if isinstance(prompt, list) else len(str(prompt).split())
    if fault != "plain":
        count(steps(int(request.get("max_tokens") or 16)))
    await asyncio.sleep(TTFT_S)
    for number, event in enumerate(events(request, num_prompt_tokens)):
        is_last = not event["choices"]
        if is_last and fault in ("no_counts", "plain"):
            del event["metrics"]
        if is_last and fault == "no_usage":
            break
        for choice in event["choices"]:
            if fault == "no_ids":
                del choice["token_ids"]
        if number == 2 and fault == "error_event":
            event = {
                "error": {"message": "EngineCore encountered an issue.", "type": "InternalServerError", "code": 500}
            }
        data = b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n"
        if number == 2 and fault == "cut":
            write_chunk(writer, data[:20])
            raise ConnectionError
        if number == 2 and fault == "freezes":
            await asyncio.sleep(3600)
        write_chunk(writer, b": keep-alive\n\n" + data)
        await writer.drain()
        await asyncio.sleep(STEP_S)
        if "error" in event:
            break
    write_chunk(writer, b"data: [DONE]\n\n")
    writer.write(b"0\r\n\r\n")


if __name__ == "__main__":
    serve(respond, needs_key=lambda path: path.startswith("/v1"))
