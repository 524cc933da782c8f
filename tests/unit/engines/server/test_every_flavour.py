"""What can happen to a stream, for every kind of server: one table of flavours by faults.

A fault changes the bytes of a good answer. `None` in the table: the reply is the good one all the same.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from specdec_bench.engines.server.completion import CompletionReply
from specdec_bench.engines.server.framing import ResponseParser
from specdec_bench.engines.server.generate import GenerateReply
from specdec_bench.engines.server.http import error_message
from specdec_bench.engines.server.llama_cpp_reply import LlamaCppReply
from specdec_bench.engines.server.reply import Reply
from specdec_bench.engines.server.tensorrt_llm_reply import TensorRTLLMReply
from specdec_bench.errors import EngineError
from tests.helpers.constructed_events import DONE, encode, tensorrt_llm

SIZES = (1, 3, 2)
"""Of a good reply: the prefill's token, and steps that accept 2 drafts and 1."""


def _vllm() -> list[dict[str, Any]]:
    """A real vLLM 0.32's events, shortened."""
    events: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "text": "é漢", "finish_reason": None, "token_ids": [7] * size}]} for size in SIZES
    ]
    events[0]["choices"][0]["prompt_token_ids"] = [1, 2]
    events[-1]["choices"][0]["finish_reason"] = "length"
    return [*events, {"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 6}}]


def _sglang() -> list[dict[str, Any]]:
    """A real SGLang 0.5.20's events, shortened."""
    events, emitted = list[dict[str, Any]](), 0
    for size in SIZES:
        emitted += size
        meta: dict[str, Any] = {"finish_reason": None, "prompt_tokens": 2, "completion_tokens": emitted}
        events.append({"text": "é漢", "output_ids": [7] * size, "meta_info": meta})
    events[-1]["meta_info"]["finish_reason"] = {"type": "length", "length": 6}
    return events


def _llama_cpp() -> list[dict[str, Any]]:
    """A real llama.cpp's events, shortened: one for each token."""
    counts = [(0, 0), *[(3, 2)] * 3, *[(6, 3)] * 2]
    events: list[dict[str, Any]] = [
        {"content": "é漢", "tokens": [7], "stop": False, "timings": {"draft_n": drafts, "draft_n_accepted": accepted}}
        for drafts, accepted in counts
    ]
    end = {"content": "", "tokens": [], "stop": True, "stop_type": "limit", "tokens_predicted": 6}
    return [*events, {**end, "tokens_evaluated": 2, "timings": {"draft_n": 6, "draft_n_accepted": 3}}]


@dataclass(frozen=True, kw_only=True)
class Flavour:
    """One kind of server."""

    reply: Callable[[], Reply]
    events: Callable[[], list[dict[str, Any]]]
    tail: bytes
    """What ends its streams."""
    error: dict[str, Any]
    """An error in mid-stream. Real for vLLM and SGLang; the others' body of the same error, as they end the stream."""


FLAVOURS: Mapping[str, Flavour] = {
    "vllm": Flavour(
        reply=CompletionReply,
        events=_vllm,
        tail=DONE,
        error={"error": {"message": "no memory left", "type": "InternalServerError", "param": None, "code": 500}},
    ),
    "sglang": Flavour(
        reply=GenerateReply,
        events=_sglang,
        tail=DONE,
        error={"error": {"message": "no memory left", "type": "invalid_request_error", "code": 400}},
    ),
    "llama_cpp": Flavour(
        reply=LlamaCppReply,
        events=_llama_cpp,
        tail=b"",
        error={"error": {"code": 500, "message": "no memory left", "type": "server_error"}},
    ),
    "tensorrt_llm": Flavour(
        reply=TensorRTLLMReply,
        events=lambda: tensorrt_llm(SIZES, (1, 2, 3), num_prompt_tokens=2),
        tail=DONE,
        error={"error": "no memory left"},
    ),
}
"""vLLM's and SGLang's events are of real servers, llama.cpp's too; TensorRT-LLM's are constructed from its source."""


def good(flavour: Flavour) -> bytes:
    return encode(flavour.events(), flavour.tail)


def with_error(flavour: Flavour) -> bytes:
    return encode([*flavour.events()[:2], flavour.error], DONE)


def without_end(flavour: Flavour) -> bytes:
    """The stream ends as if all were well, but no event says why the reply ended."""
    return encode(flavour.events()[:2], DONE)


FAULTS: Mapping[str, tuple[Callable[[Flavour], bytes], str | None]] = {
    "nothing": (good, None),
    "comments between events": (
        lambda one: b": keep-alive\n\n" + good(one).replace(b"\n\n", b"\n\n: ping\n\n:\n\n"),
        None,
    ),
    "empty events between events": (lambda one: good(one).replace(b"\n\n", b"\n\ndata:\n\n"), None),
    "lines that end as on Windows": (lambda one: good(one).replace(b"\n", b"\r\n"), None),
    "names and retries of events": (
        lambda one: good(one).replace(b"data: ", b"event: m\nid: 1\nretry: 9\ndata: "),
        None,
    ),
    "no space behind data": (lambda one: good(one).replace(b"data: ", b"data:"), None),
    "an error event": (with_error, "the server gave the request up: no memory left"),
    "no end": (without_end, "finish_reason None"),
    "an empty body": (lambda _: b"", "finish_reason None"),
    "cut in the middle of an event": (lambda one: good(one) + b'data: {"choi', "in the middle of an event"),
    "cut behind an event's line": (lambda one: good(one) + b'data: {"choices": []}\n', "in the middle of an event"),
    "cut in the middle of a character": (lambda one: good(one) + 'data: {"text": "é'.encode()[:-1], "in the middle"),
    "a page of a proxy": (lambda _: b"<html>\n\n", "finish_reason None"),
    "garbage in an event": (
        lambda one: encode(one.events()[:2], b"data: <html>\n\n"),
        "the server wrote an event that is",
    ),
    "a list in an event": (lambda one: encode(one.events()[:2], b"data: [1]\n\n"), "the server wrote an event that is"),
    "half a character in a text, which nobody reads": (
        lambda one: good(one).replace("é漢".encode(), "é漢".encode()[:-1]),
        None,
    ),
}
"""Fault -> what it makes of a stream, and what is said of it."""

CUTS = (1, 7, 100, 1 << 20)
"""Bytes that come at a time: cut inside characters, inside events, several events at once, all at once."""


def take(flavour: Flavour, body: bytes, size: int) -> Reply:
    reply = flavour.reply()
    for at in range(0, len(body), size):
        reply.take(body[at : at + size], at)
    reply.check()
    return reply


@pytest.mark.parametrize("size", CUTS)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", FLAVOURS)
def test_what_happens_to_a_stream(name: str, fault: str, size: int) -> None:
    flavour, (change, words) = FLAVOURS[name], FAULTS[fault]
    if words is not None:
        with pytest.raises(EngineError, match=words):
            take(flavour, change(flavour), size)
        return
    reply = take(flavour, change(flavour), size)
    assert (reply.log.sizes, reply.log.token_ids, reply.num_prompt_tokens) == ([*SIZES], [7] * 6, 2)
    assert reply.log.times_ns == sorted(reply.log.times_ns)


@pytest.mark.parametrize("size", CUTS)
@pytest.mark.parametrize("name", FLAVOURS)
def test_chunks_may_be_cut_anywhere(name: str, size: int) -> None:
    """HTTP's chunks end where the server flushed, not where events or characters end."""
    flavour, body = FLAVOURS[name], good(FLAVOURS[name])
    pieces = [body[at : at + 33] for at in range(0, len(body), 33)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    sent = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n" + framed
    parser, reply = ResponseParser(), flavour.reply()
    for at in range(0, len(sent), size):
        reply.take(parser.feed(sent[at : at + size]), at)
    assert parser.is_complete
    assert reply.check() == "length"
    assert reply.log.sizes == [*SIZES]


HARMLESS = [change for change, words in FAULTS.values() if words is None]


@pytest.mark.parametrize("name", FLAVOURS)
def test_reads_may_end_anywhere(name: str) -> None:
    """Random reads of random chunks: every event is there once, with the time of the read that completed it."""
    flavour, random = FLAVOURS[name], Random(0)
    for number in range(120):
        body = HARMLESS[number % len(HARMLESS)](flavour)
        whole = take(flavour, body, 1)  # its times are the places in the body where events end
        sent, ends, at = bytearray(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"), list[int](), 0
        while at < len(body):
            piece = body[at : at + random.choice((1, 2, 30, 400))]
            sent += b"%x;a=b\r\n" % len(piece)
            ends += range(len(sent), len(sent) + len(piece))
            sent += piece + b"\r\n"
            at += len(piece)
        sent += b"0\r\nx-trailer: 1\r\n\r\n"
        cuts = sorted(random.sample(range(1, len(sent)), random.choice((1, 2, 5, 50))))
        parser, reply = ResponseParser(), flavour.reply()
        for read, (start, end) in enumerate(pairwise((0, *cuts, len(sent)))):
            reply.take(parser.feed(bytes(sent[start:end])), read)
        assert (parser.is_complete, parser.is_reusable, reply.check()) == (True, True, "length")
        assert (reply.log.sizes, reply.log.token_ids) == ([*SIZES], [7] * 6)
        assert reply.log.times_ns == [bisect_right(cuts, ends[place]) for place in whole.log.times_ns]


@pytest.mark.parametrize("name", FLAVOURS)
def test_a_connection_that_is_cut_never_completes_a_reply(name: str) -> None:
    """Wherever the stream ends before its last event, the reply is refused."""
    flavour = FLAVOURS[name]
    body = encode(flavour.events(), b"")
    for end in range(len(body) - 1):
        with pytest.raises(EngineError):
            take(flavour, body[:end], 1 << 20)


@pytest.mark.parametrize("name", FLAVOURS)
def test_errors_are_told_in_one_line(name: str) -> None:
    assert error_message(encode([FLAVOURS[name].error], b"")[len(b"data: ") :]) == "no memory left"
