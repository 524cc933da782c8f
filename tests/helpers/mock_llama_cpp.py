"""A server that answers as llama.cpp's does, with known counts; and a program that starts it.

    python -m tests.helpers.mock_llama_cpp [FAULT]            prints its port, and answers until it is killed
    python -m tests.helpers.mock_llama_cpp --port PORT ...    stands in for llama-server, which a run starts

FAULT is one of `FAULTS`. Its events are those of a recorded stream with other numbers: one for each token. It closes
every connection after a stream, as llama.cpp does.
"""

import asyncio
import itertools
import json
import os
import signal
import sys
from typing import Any

from tests.helpers.mock_completions import DRAFT_LENGTH, steps, write_answer, write_chunk
from tests.helpers.recordings import FOLDER

MODEL_PATH = "/models/target/target.gguf"
FAULTS = ("dies", "error_event", "cut", "no_ids", "lost_ids", "refuses", "plain", "no_metrics", "pings")
FAULTY_FROM = 4
"""The completion from which on most faults show, the first being number 1: the probe and the warm-up succeed."""
ALWAYS = ("no_ids", "plain", "no_metrics", "pings")


def _arguments() -> dict[str, str]:
    words = sys.argv[1:]
    return {word: words[at + 1] if at + 1 < len(words) else "" for at, word in enumerate(words) if word[:2] == "--"}


ARGUMENTS = _arguments()
FAULT = sys.argv[1] if len(sys.argv) > 1 and not sys.argv[1].startswith("--") else ""
KIND = ARGUMENTS.get("--spec-type", "none" if FAULT == "plain" else "draft-simple")
NAME = ARGUMENTS.get("--alias", "served")
SLOTS = int(ARGUMENTS.get("--parallel", 2))
CONTEXT = int(ARGUMENTS.get("--ctx-size", 4096)) // SLOTS
KEY = os.environ.get("LLAMA_API_KEY", "")
_numbers = itertools.count(1)
_totals = {"steps": 0, "drafts": 0, "positions": [0] * DRAFT_LENGTH}


def events(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns a request's events: one for each token, and the last one."""
    limit, drafts = int(request["n_predict"]), KIND != "none"
    per_step = steps(limit) if drafts else [0] * (limit - 1)
    found: list[dict[str, Any]] = []
    proposed = accepted = 0

    def add(count: int) -> None:
        for _ in range(min(count, limit - len(found))):
            timings: dict[str, Any] = {"prompt_n": 2, "prompt_ms": 12.5, "predicted_n": len(found) + 1}
            timings |= {"draft_n": proposed, "draft_n_accepted": accepted} if proposed else {}
            event = {"index": 0, "content": "é", "tokens": [7], "stop": False, "id_slot": -1}
            found.append({**event, "tokens_predicted": len(found) + 1, "timings": timings})

    add(1)
    for number in per_step:
        proposed += DRAFT_LENGTH if drafts else 0
        accepted += number
        _totals["steps"] += drafts
        _totals["drafts"] += DRAFT_LENGTH if drafts else 0
        for position in range(number):
            _totals["positions"][position] += 1
        add(number + 1)
    settings = {"speculative.types": f"none,{KIND}" if drafts else "none", "logit_bias": [{"bias": None, "token": 1}]}
    end = {"index": 0, "content": "", "tokens": [], "stop": True, "stop_type": "limit", "tokens_predicted": limit}
    end |= {"tokens_evaluated": len(request["prompt"]), "generation_settings": settings}
    return [*found, {**end, "timings": found[-1]["timings"]}]


def metrics() -> bytes:
    """Returns the counters. There are none of positions before the first draft."""
    name = "llamacpp:spec_decode_num"
    accepted = sum(_totals["positions"])
    lines = [f"{name}_draft_tokens_total {_totals['drafts']}", f"{name}_accepted_tokens_total {accepted}"]
    lines.append(f"{name}_drafts_total {_totals['steps']}")
    if _totals["steps"]:
        positions = enumerate(_totals["positions"])
        lines += [f'{name}_accepted_tokens_per_pos_total{{position="{n}"}} {count}' for n, count in positions]
    return "\n".join(lines).encode() + b"\n"


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers the requests of one connection."""
    props = {"default_generation_settings": {"n_ctx": CONTEXT}, "total_slots": SLOTS, "model_path": MODEL_PATH}
    props |= {"model_ftype": "Q4_1", "build_info": "b1-mock"}
    models = {"data": [{"id": NAME, "object": "model", "meta": {"n_ctx": CONTEXT}}]}
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            lines = head.decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            method, path, _ = lines[0].split()
            if KEY and path not in ("/health", "/v1/models") and headers.get("authorization") != f"Bearer {KEY}":
                write_answer(writer, 401, b'{"error":{"message":"Invalid API Key","type":"authentication_error"}}')
            elif (method, path) == ("POST", "/completion"):
                await _complete(writer, json.loads(body))
                break
            elif path == "/metrics" and FAULT == "no_metrics":
                write_answer(writer, 501, b'{"error":{"code":501,"message":"This server does not support metrics"}}')
            elif method == "GET" and path in ("/health", "/metrics", "/v1/models", "/props"):
                told = {"/v1/models": models, "/props": props}.get(path, {"status": "ok"})
                write_answer(writer, 200, metrics() if path == "/metrics" else json.dumps(told).encode())
            else:
                write_answer(writer, 404, b'{"error":{"message":"File Not Found","type":"not_found_error","code":404}}')
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    writer.close()


async def _complete(writer: asyncio.StreamWriter, request: dict[str, Any]) -> None:
    fault = FAULT if next(_numbers) >= FAULTY_FROM or FAULT in ALWAYS else ""
    if fault == "dies":
        os._exit(1)
    if fault == "refuses":
        write_answer(writer, 400, b'{"error":{"code":400,"message":"request exceeds the available context size"}}')
        return
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    for number, event in enumerate(events(request)):
        if fault == "no_ids":
            event["tokens"] = []
        if fault == "lost_ids" and number == 3:
            continue
        if fault == "error_event" and number == 3:
            event = {"error": {"code": 500, "message": "no memory left", "type": "server_error"}}
        data = b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n"
        if fault == "cut" and number == 3:
            write_chunk(writer, data[:20])
            return
        write_chunk(writer, b": ping\n\n" + data if fault == "pings" else data)
        await writer.drain()
        if fault == "error_event" and number == 3:
            break
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def main() -> None:
    server = await asyncio.start_server(answer, "127.0.0.1", int(ARGUMENTS.get("--port", 0)))
    print(server.sockets[0].getsockname()[1], flush=True)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: os._exit(0))
    await server.serve_forever()


if __name__ == "__main__":
    if "--help" in ARGUMENTS:
        print((FOLDER / "llama_cpp" / "help.txt").read_text())
    elif "--version" in ARGUMENTS:
        print("version: 1-mock")
    elif "--list-devices" in ARGUMENTS:
        print("Available devices:\n  (none)")
    else:
        asyncio.run(main())
