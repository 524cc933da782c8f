"""A server that streams replies as SGLang's /generate does, with known counts.

    python -m tests.helpers.mock_generate [FAULT]

It prints its port, and answers until it is killed. It stands in for an SGLang server that runs already. FAULT is one of
`FAULTS`.
"""

import asyncio
import itertools
import json
import os
from typing import Any

from tests.helpers.mock_http import (
    DRAFT_LENGTH,
    FAULT,
    FAULTY_FROM,
    KEY,
    STEP_S,
    merge,
    serve,
    steps,
    write_answer,
    write_chunk,
)

MODEL = "/models/target"
FAULTS = (
    "dies",
    "error_event",
    "abort",
    "cut",
    "no_counts",
    "contradicts",
    "no_ids",
    "refuses",
    "plain",
    "eagle",
    "cumulative",
    "merged",
    "keeps_caches",
    "interval",
)
ALWAYS = ("no_ids", "plain", "eagle", "cumulative", "merged", "keeps_caches", "interval")
"""Faults that show from the first request on."""
_numbers = itertools.count(1)
_totals = {"verify_steps": 0, "flushes": 0}


def server_info() -> dict[str, Any]:
    """Returns the arguments that the server says it runs with."""
    drafting = {
        "speculative_algorithm": {"plain": None, "eagle": "EAGLE"}.get(FAULT, "STANDALONE"),
        "speculative_draft_model_path": "/models/draft",
        "speculative_num_steps": DRAFT_LENGTH,
        "speculative_eagle_topk": 1,
        "speculative_num_draft_tokens": DRAFT_LENGTH + 1,
    }
    return {
        "model_path": MODEL,
        "dtype": "auto",
        "trust_remote_code": False,
        **dict.fromkeys(("tp_size", "pp_size", "dp_size", "ep_size"), 1),
        "max_running_requests": 48,
        "disable_radix_cache": True,
        "disable_cuda_graph": False,
        "device": "cpu",
        "stream_interval": 4 if FAULT == "interval" else 1,
        "skip_tokenizer_init": False,
        "random_seed": 7,
        "log_level": "info",
        "incremental_streaming_output": FAULT != "cumulative",
        **drafting,
        "api_key": KEY or None,
        "launch_command": f"--api-key {KEY}",
        "internal_states": [{"last_gen_throughput": 1.0}],
        "version": "0.5.20",
    }


def events(request: dict[str, Any], fault: str) -> list[dict[str, Any]]:
    """Returns the events of a request: one for the prefill, one for each step; `merged` joins each two of the last."""
    limit = request["sampling_params"]["max_new_tokens"]
    per_step = [] if FAULT == "plain" else steps(limit)
    sizes = [1] * limit if FAULT == "plain" else [1, *(accepted + 1 for accepted in per_step)]
    sizes[-1] -= sum(sizes) - limit
    if fault == "merged":
        sizes = merge(sizes)
    histogram = [per_step.count(number) for number in range(max(per_step, default=0) + 1)]
    counts = {
        "spec_verify_ct": len(per_step),
        "spec_num_correct_drafts": sum(per_step) + (fault == "contradicts"),
        "spec_num_proposed_drafts": DRAFT_LENGTH * len(per_step),
        "spec_correct_drafts_histogram": histogram,
    }
    _totals["verify_steps"] += len(per_step)
    found, emitted = [], 0
    for number, size in enumerate(sizes):
        emitted += size
        meta: dict[str, Any] = {
            "id": "1",
            "finish_reason": None,
            "prompt_tokens": len(request["input_ids"]),
            "completion_tokens": emitted,
            "num_retractions": 0,
        }
        if number == len(sizes) - 1:
            meta["finish_reason"] = {"type": "length", "length": limit}
            meta |= {"queue_time": 0.002, "forward_entry_time": 10.5, "prefill_finished_time": 10.75}
            meta |= {} if per_step == [] or fault == "no_counts" else counts
        ids = [7] * (emitted if fault == "cumulative" else size)
        found.append({"text": "é", "output_ids": ids, "meta_info": meta})
    return found


async def respond(writer: asyncio.StreamWriter, method: str, path: str, body: bytes) -> None:
    if (method, path) == ("POST", "/generate"):
        await _generate(writer, json.loads(body))
    elif method == "POST" and path.startswith("/flush_cache"):
        _totals["flushes"] += 1
        write_answer(writer, 403 if FAULT == "keeps_caches" else 200, b"Cache flushed.\n")
    elif method == "GET" and path in ("/health", "/metrics", "/v1/models", "/server_info"):
        models = {"data": [{"id": "served", "root": "served", "max_model_len": 2048}]}
        told = {"/v1/models": models, "/server_info": server_info()}.get(path, {})
        counters = b'sglang:spec_verify_calls_total{model_name="m"} %d.0\n' % _totals["verify_steps"]
        write_answer(writer, 200, counters if path == "/metrics" else json.dumps(told).encode())
    else:
        write_answer(writer, 404, b'{"detail":"Not Found"}')


async def _generate(writer: asyncio.StreamWriter, request: dict[str, Any]) -> None:
    fault = FAULT if next(_numbers) >= FAULTY_FROM or FAULT in ALWAYS else ""
    if fault == "dies":
        os._exit(1)
    if fault == "refuses":
        write_answer(writer, 400, b'{"error":{"message":"Requested token count exceeds the context"}}')
        return
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    for number, event in enumerate(events(request, fault)):
        if fault == "no_ids":
            del event["output_ids"]
        if number == 2 and fault == "error_event":
            event = {"error": {"message": "no memory left", "type": "invalid_request_error", "code": 400}}
        if number == 2 and fault == "abort":
            event["meta_info"]["finish_reason"] = {"type": "abort", "message": "out of memory", "status_code": 500}
        data = b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n"
        if number == 2 and fault == "cut":
            write_chunk(writer, data[:20])
            raise ConnectionError
        write_chunk(writer, data)
        await writer.drain()
        await asyncio.sleep(STEP_S)
        if number == 2 and fault in ("error_event", "abort"):
            break
    write_chunk(writer, b"data: [DONE]\n\n")
    writer.write(b"0\r\n\r\n")


if __name__ == "__main__":
    serve(respond, needs_key=lambda path: path not in ("/health", "/metrics"))
