"""What the server of known truth states is what a plain socket sees."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.helpers.command_line import ROOT
from tests.helpers.timed_server import accepted_drafts

TTFT_MS, STEP_MS, NUM_TOKENS = 4, 5, 12


class Watched(NamedTuple):
    """A reply as a socket saw it. Times are of `time.perf_counter_ns`."""

    asked_ns: int
    came_ns: list[int]
    """When the read returned that completed the event."""
    events: list[dict[str, Any]]
    ended: bool


def send(port: int, method: str, path: str, body: dict[str, Any] | None = None, more: str = "") -> socket.socket:
    content = b"" if body is None else json.dumps(body).encode()
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    head = f"{method} {path} HTTP/1.1\r\nhost: x\r\n{more}content-length: {len(content)}\r\n\r\n"
    connection.sendall(head.encode() + content)
    return connection


def get(port: int, path: str) -> str:
    with send(port, "GET", path, more="connection: close\r\n") as connection:
        return b"".join(iter(lambda: connection.recv(1 << 16), b"")).decode()


def complete(port: int, more: str = "") -> Watched:
    asked_ns = time.perf_counter_ns()
    body = {"model": "mock", "prompt": [1, 2, 3], "max_tokens": NUM_TOKENS, "stream": True}
    came_ns: list[int] = []
    received = b""
    with send(port, "POST", "/v1/completions", body, more) as connection:
        while not received.endswith(b"\r\n0\r\n\r\n") and (data := connection.recv(1 << 16)):
            now_ns = time.perf_counter_ns()
            received += data
            came_ns += [now_ns] * (received.count(b"data: {") - len(came_ns))
    lines = [line.removeprefix("data: ") for line in received.decode().splitlines() if line.startswith("data: ")]
    return Watched(asked_ns, came_ns, [json.loads(line) for line in lines[:-1]], lines[-1] == "[DONE]")


@contextlib.contextmanager
def serving(statement: Path) -> Iterator[int]:
    """Runs the server in two processes, and gives its port. At the end, the statement is there."""
    command = [sys.executable, "-m", "tests.helpers.timed_server", str(statement), "--processes", "2"]
    times = ["--ttft-ms", str(TTFT_MS), "--step-ms", str(STEP_MS)]
    process = subprocess.Popen([*command, *times], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        if process.poll() is None:
            process.terminate()  # its own processes end with it
            process.wait()
        process.stdout.close()


def test_the_statement_agrees_with_what_a_socket_sees(tmp_path: Path) -> None:
    with serving(tmp_path / "statement") as port:
        watched = [complete(port), complete(port, "X-Request-Id: mine\r\n")]
        metrics = get(port, "/metrics")
    stated = {line["number"]: line for line in map(json.loads, (tmp_path / "statement").read_text().splitlines())}
    assert [path.name for path in tmp_path.iterdir()] == ["statement"]
    assert len(stated) == 2
    assert sorted(line["x_request_id"] or "" for line in stated.values()) == ["", "mine"]
    for seen in watched:
        *tokens, usage = seen.events
        first = tokens[0]["choices"][0]
        sent = stated[first["token_ids"][0]]
        assert first["text"] == f"#{sent['number']}"
        assert sent["is_complete"]
        assert seen.ended
        # Order: asked, read, then each event written and seen; each is written when due or later.
        assert len(sent["sent_ns"]) == len(sent["due_ns"]) == len(tokens)
        assert seen.asked_ns < sent["received_ns"]
        assert sent["received_ns"] + TTFT_MS * 10**6 <= sent["due_ns"][0]
        assert {b - a for a, b in zip(sent["due_ns"], sent["due_ns"][1:], strict=False)} == {STEP_MS * 10**6}
        assert all(due <= at for due, at in zip(sent["due_ns"], sent["sent_ns"], strict=True))
        assert sent["sent_ns"] == sorted(sent["sent_ns"])
        assert all(at < came for at, came in zip(sent["sent_ns"], seen.came_ns, strict=False))
        # Counts: the prefill's token, then one and what was accepted in each step, the last cut at the limit.
        sizes = [len(event["choices"][0]["token_ids"]) for event in tokens]
        per_step = sent["per_step"]
        assert per_step == accepted_drafts(sent["number"], NUM_TOKENS)
        assert sizes[:-1] == [1, *(accepted + 1 for accepted in per_step[:-1])]
        assert sum(sizes) == NUM_TOKENS == usage["usage"]["completion_tokens"]
        assert usage["usage"]["prompt_tokens"] == 3
        assert usage["metrics"]["speculative_decoding"]["per_step_accepted"] == per_step
    # Whichever process answers, it tells of all requests of both.
    per_steps = [line["per_step"] for line in stated.values()]
    steps, accepted = sum(map(len, per_steps)), sum(map(sum, per_steps))
    assert f'vllm:spec_decode_num_drafts_total{{model_name="mock"}} {steps}.0' in metrics
    assert f'vllm:spec_decode_num_accepted_tokens_total{{model_name="mock"}} {accepted}.0' in metrics


@pytest.mark.parametrize("body", [{"prompt": "a b"}, {"prompt": [[1, 2]], "stream": True}])
def test_other_requests_are_refused(tmp_path: Path, body: dict[str, Any]) -> None:
    with (
        serving(tmp_path / "statement") as port,
        send(port, "POST", "/v1/completions", {"model": "mock", **body}) as connection,
    ):
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 400")
    assert (tmp_path / "statement").read_bytes() == b""
