"""A server that streams completions as vLLM does, at known times, and states when it sent each event.

    python -m tests.helpers.timed_server STATEMENT [--processes N] [--ttft-ms MS] [--step-ms MS]

It prints its port, and answers until SIGTERM. Then it writes STATEMENT: a JSON line for each completion, with the
times on CLOCK_MONOTONIC, which is `time.perf_counter_ns` of every process on a Linux host. Its processes share the
port.

Each process steps through all of its requests together, as an engine does, at fixed instants: its ticks. A request's
first event is due at the first tick that comes TTFT after the request was read, each later one at the next tick. A
late process skips no tick. A reply's first token is its number, which its text begins with too: by that a client's
record can be found, or by the x-request-id that the client sent.
"""

import argparse
import asyncio
import contextlib
import gc
import itertools
import json
import mmap
import os
import random
import signal
import socket
import sys
import time
from collections import deque
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec

from tests.helpers.mock_completions import MODEL, about, events_of, prometheus
from tests.helpers.mock_http import DRAFT_LENGTH, chunk, write_answer

RATE = 0.68
"""Each draft is accepted with this probability, given that the one before it was."""
NUM_PATTERNS = 64
"""Requests differ in what their steps accept; after so many it repeats."""
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
END = chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
BACKLOG = 4096
ORPHANED_S = 1.0
"""How often a process looks whether the one that started it still lives."""
NUM_COUNTERS = 3 + DRAFT_LENGTH


class Sent(msgspec.Struct, kw_only=True):
    """What the server did for one completion. Times are of CLOCK_MONOTONIC."""

    number: int
    """The reply's first token."""
    x_request_id: str | None = None
    max_tokens: int
    received_ns: int
    """When the end of the request was read."""
    due_ns: list[int]
    """When each event should have been written."""
    sent_ns: list[int]
    """Just before each event was written. The last one carries the usage too."""
    wall_minus_monotonic_ns: int
    """Added to a time, it gives the wall clock's."""
    per_step: list[int] = []
    """Drafts that each decode step accepted."""
    is_complete: bool = False


class Reply(NamedTuple):
    """The events of a reply as they go over the network, without its first, which has the request's number."""

    per_step: list[int]
    later: list[bytes]
    usage: dict[str, Any]


def accepted_drafts(pattern: int, num_tokens: int) -> list[int]:
    """Returns what each decode step accepts, the last before it is cut at the limit."""
    coins = random.Random(pattern)
    accepted: list[int] = []
    emitted = 1
    while emitted < num_tokens:
        drafts = 0
        while drafts < DRAFT_LENGTH and coins.random() < RATE:
            drafts += 1
        accepted.append(drafts)
        emitted += drafts + 1
    return accepted


def _data(event: dict[str, Any]) -> bytes:
    return chunk(b"data: " + json.dumps(event).encode() + b"\n\n")


@lru_cache(maxsize=4 * NUM_PATTERNS)
def reply(pattern: int, num_tokens: int) -> Reply:
    """Returns the reply of a pattern."""
    per_step = accepted_drafts(pattern, num_tokens)
    _, *later, usage = events_of(per_step, num_tokens, 0, MODEL)
    return Reply(per_step, [_data(event) for event in later], usage)


@lru_cache(maxsize=1)
def _first_halves() -> tuple[bytes, bytes, bytes]:
    """Returns what stands around the number in a reply's first event, where it is in the text and in the ids."""
    first = next(events_of([0], 2, 0, MODEL))
    first["choices"][0] |= {"text": "#TEXT", "token_ids": ["ID"]}
    before, _, rest = json.dumps(first).encode().partition(b"TEXT")
    between, _, after = rest.partition(b'"ID"')
    return before, between, after


def first_event(number: int) -> bytes:
    """Returns the event of a reply's prefill."""
    before, between, after = _first_halves()
    return chunk(b"data: %s%d%s%d%s\n\n" % (before, number, between, number, after))


class Server:
    """One of the processes."""

    def __init__(self, options: argparse.Namespace, place: int, counters: mmap.mmap) -> None:
        self.ttft_ns, self.step_ns = round(options.ttft_ms * 1e6), round(options.step_ms * 1e6)
        self.numbers = itertools.count(place + 1, options.processes)
        self.counters = memoryview(counters).cast("q")
        self._own = self.counters[place * NUM_COUNTERS : (place + 1) * NUM_COUNTERS]
        self.sent: list[Sent] = []
        self.waiting: deque[Stream] = deque()
        self.running: list[Stream] = []
        self.wall_minus_monotonic_ns = time.time_ns() - time.monotonic_ns()
        self._loop = asyncio.get_running_loop()
        self._due_ns = time.monotonic_ns() + self.step_ns * place // options.processes
        self.tick()

    def tick(self) -> None:
        """Writes the next event of every request that is due."""
        due_ns = self._due_ns
        while self.waiting and self.waiting[0].record.received_ns + self.ttft_ns <= due_ns:
            self.running.append(self.waiting.popleft())
        self.running = [stream for stream in self.running if stream.step(due_ns)]
        self._due_ns += self.step_ns
        self._loop.call_at(self._due_ns / 1e9, self.tick)

    def count(self, per_step: list[int]) -> None:
        """Adds a request to this process's counters."""
        own = self._own
        own[0] += len(per_step)
        own[1] += DRAFT_LENGTH * len(per_step)
        own[2] += sum(per_step)
        for position in range(DRAFT_LENGTH):
            own[3 + position] += sum(accepted > position for accepted in per_step)

    def metrics(self) -> bytes:
        """Returns the counters of all processes."""
        sums = [sum(self.counters[place::NUM_COUNTERS]) for place in range(NUM_COUNTERS)]
        return prometheus(dict(zip(("drafts", "draft_tokens", "accepted_tokens"), sums, strict=False)), sums[3:])


class Stream:
    """The reply to one request."""

    __slots__ = ("_events", "_next", "_server", "_transport", "_usage", "record")

    def __init__(self, server: Server, transport: asyncio.WriteTransport, record: Sent, num_prompt_tokens: int) -> None:
        self._server, self._transport, self.record = server, transport, record
        found = reply(record.number % NUM_PATTERNS, record.max_tokens)
        self._events, self._next = [HEAD + first_event(record.number), *found.later], 0
        record.per_step = found.per_step
        usage = {"prompt_tokens": num_prompt_tokens, "completion_tokens": record.max_tokens}
        usage["total_tokens"] = num_prompt_tokens + record.max_tokens
        self._usage = _data(found.usage | {"usage": usage}) + END

    def step(self, due_ns: int) -> bool:
        """Writes the next event. Returns whether there are more."""
        data = self._events[self._next]
        self._next += 1
        if self._next < len(self._events):
            return self._write(due_ns, data)
        self._server.count(self.record.per_step)
        self.record.is_complete = self._write(due_ns, data + self._usage)
        return False

    def _write(self, due_ns: int, data: bytes) -> bool:
        if self._transport.is_closing():
            return False
        record = self.record
        record.due_ns.append(due_ns)
        record.sent_ns.append(time.monotonic_ns())
        self._transport.write(data)
        return True


class Connection(asyncio.Protocol):
    """One connection, with one request at a time."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._transport: asyncio.WriteTransport | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        now_ns = time.monotonic_ns()
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return
        self._received = rest[length:]
        method, path, _ = first.split()
        assert self._transport is not None
        if (method, path) == ("POST", "/v1/completions"):
            self._complete(json.loads(rest[:length]), headers.get("x-request-id"), now_ns)
        elif method == "GET" and (told := self._server.metrics() if path == "/metrics" else about(path)) is not None:
            write_answer(self._transport, 200, told)
        else:
            write_answer(self._transport, 404, b'{"detail":"Not Found"}')
        if headers.get("connection", "").lower() == "close" and method == "GET":
            self._transport.close()

    def _complete(self, request: dict[str, Any], x_request_id: str | None, now_ns: int) -> None:
        assert self._transport is not None
        prompt, server = request["prompt"], self._server
        limit = int(request.get("max_tokens") or 16)
        if not request.get("stream") or limit < 2 or (isinstance(prompt, list) and isinstance(prompt[0], list)):
            write_answer(self._transport, 400, b'{"error":{"message":"one prompt, streamed, of 2 tokens or more"}}')
            return
        record = Sent(
            number=next(server.numbers),
            x_request_id=x_request_id,
            max_tokens=limit,
            received_ns=now_ns,
            due_ns=[],
            sent_ns=[],
            wall_minus_monotonic_ns=server.wall_minus_monotonic_ns,
        )
        server.sent.append(record)
        num_prompt_tokens = len(prompt if isinstance(prompt, list) else prompt.split())
        server.waiting.append(Stream(server, self._transport, record, num_prompt_tokens))


async def serve(options: argparse.Namespace, place: int, counters: mmap.mmap, port: int, ready: int) -> None:
    """Answers until SIGTERM, then writes this process's part of the statement."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    gc.freeze()
    gc.disable()  # a collection would be a late event
    server = Server(options, place, counters)
    await loop.create_server(lambda: Connection(server), "127.0.0.1", port, reuse_port=True, backlog=BACKLOG)
    os.write(ready, b".")
    parent = os.getppid()
    while not stopped.is_set() and os.getppid() == parent:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), ORPHANED_S)
    Path(f"{options.statement}.{place}").write_bytes(msgspec.json.Encoder().encode_lines(server.sent))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("statement", type=Path)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--ttft-ms", type=float, default=50)
    parser.add_argument("--step-ms", type=float, default=10)
    options = parser.parse_args()
    counters = mmap.mmap(-1, 8 * NUM_COUNTERS * options.processes)
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        readable, ready = os.pipe()
        children = []
        for place in range(options.processes):
            if not (child := os.fork()):
                asyncio.run(serve(options, place, counters, port, ready))
                os._exit(0)
            children.append(child)
        os.close(ready)
        for _ in children:
            if not os.read(readable, 1):
                sys.exit("a process of the server died while it started")
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        print(port, flush=True)
        signal.sigwait([signal.SIGTERM])
    for child in children:
        os.kill(child, signal.SIGTERM)
    for child in children:
        os.waitpid(child, 0)
    parts = [Path(f"{options.statement}.{place}") for place in range(options.processes)]
    with options.statement.open("wb") as whole:
        for part in parts:
            whole.write(part.read_bytes())
            part.unlink()


if __name__ == "__main__":
    main()
