import pytest

from specdec_bench.engines.server.framing import EventSplitter, ResponseParser
from specdec_bench.errors import EngineError

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    b"6\r\ndata: \r\n3;name=value\r\n\xc3\xa9!\r\n0\r\nx-trailer: 1\r\n\r\n"
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, len(CHUNKED)])
def test_a_chunked_body_is_the_same_however_it_is_cut(size: int) -> None:
    parser, body = ResponseParser(), b""
    for first in range(0, len(CHUNKED), size):
        assert not parser.is_complete
        body += parser.feed(CHUNKED[first : first + size])
    assert (parser.status, body, parser.is_complete, parser.is_reusable) == (200, b"data: \xc3\xa9!", True, True)
    assert parser.headers["content-type"] == "text/event-stream"


def test_a_body_with_a_length_ends_there() -> None:
    parser = ResponseParser()
    assert parser.feed(b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\nconnection: close\r\n\r\nab") == b"ab"
    assert not parser.is_complete
    assert parser.feed(b"cd") == b"cd"
    assert (parser.status, parser.is_complete, parser.is_reusable) == (404, True, False)


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    parser = ResponseParser()
    assert parser.feed(b"HTTP/1.1 200 OK\r\n\r\nall") == b"all"
    assert not parser.is_complete
    parser.end()
    assert parser.is_complete


def test_a_chunked_body_that_is_cut_off_is_never_complete() -> None:
    parser = ResponseParser()
    parser.feed(CHUNKED[:-5])
    parser.end()
    assert not parser.is_complete


def test_an_interim_answer_is_passed_over() -> None:
    parser = ResponseParser()
    parser.feed(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")
    assert (parser.status, parser.is_complete) == (204, True)


@pytest.mark.parametrize(
    ("head", "is_reusable"),
    [
        (b"HTTP/1.1 200 OK", True),
        (b"HTTP/1.1 200 OK\r\nConnection: Close", False),
        (b"HTTP/1.1 200 OK\r\nconnection: x-own, close", False),
        (b"HTTP/1.0 200 OK", False),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive", True),
    ],
)
def test_a_connection_that_the_server_will_end_is_not_used_again(head: bytes, is_reusable: bool) -> None:
    parser = ResponseParser()
    parser.feed(head + b"\r\ncontent-length: 2\r\n\r\n{}")
    assert (parser.is_complete, parser.is_reusable) == (True, is_reusable)


@pytest.mark.parametrize("header", ["content-encoding: gzip", "transfer-encoding: gzip, chunked"])
def test_an_encoding_that_was_not_asked_for_is_refused(header: str) -> None:
    """Its bytes would be taken for a stream without events, or for metrics without counters."""
    with pytest.raises(EngineError, match=header):
        ResponseParser().feed(f"HTTP/1.1 200 OK\r\n{header}\r\n\r\n".encode() + b"\x1f\x8b")


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 two hundred\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-5\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000,
    ],
)
def test_what_is_no_http_is_refused(data: bytes) -> None:
    with pytest.raises(EngineError, match=r"HTTP/1\.1"):
        ResponseParser().feed(data)


STREAM = b'data: {"a":"\xc3\xa9"}\n\n: keep-alive\n\nevent: x\ndata:two\ndata: lines\r\n\r\ndata: [DONE]\n\n'


@pytest.mark.parametrize("size", [1, 3, 13, len(STREAM)])
def test_events_are_the_same_however_the_body_is_cut(size: int) -> None:
    splitter, events = EventSplitter(), []
    for first in range(0, len(STREAM), size):
        events += splitter.feed(STREAM[first : first + size])
    assert events == ['{"a":"é"}'.encode(), b"two\nlines", b"[DONE]"]
    assert splitter.is_between_events


def test_an_event_without_data_is_none() -> None:
    """Proxies write one to keep a connection alive, as others write comments."""
    assert EventSplitter().feed(b"data:\n\nevent: ping\ndata: \n\ndata: 1\n\n") == [b"1"]


def test_an_event_that_was_cut_off_shows() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b'data: {"a"') == []
    assert not splitter.is_between_events
