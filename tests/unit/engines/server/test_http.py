"""The HTTP client against servers that treat its connections badly."""

import asyncio
import contextlib
import select
import socket
import time
from collections.abc import Awaitable, Callable

import pytest

from specdec_bench.engines.server.http import BUFFER_BYTES, Client, ConnectionFailedError

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def with_server(serve: Serve, use: Callable[[Client], Awaitable[None]]) -> None:
    ends: list[asyncio.Event] = []

    async def serve_to_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends.append(end := asyncio.Event())
        try:
            with contextlib.suppress(ConnectionError):
                await serve(reader, writer)
        finally:
            writer.close()
            end.set()

    server = await asyncio.start_server(serve_to_the_end, "127.0.0.1", 0)
    client = Client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    try:
        await use(client)
    finally:
        await client.close()
        server.close()
        for end in ends:
            await end.wait()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    return (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1]


def test_a_request_on_a_connection_that_the_server_ends_fails_and_is_sent_once() -> None:
    """Sent again, it would have the time of the first attempt, and a server that had taken it would do it twice."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(ANSWER)
        seen.append(await read_request(reader))  # as a server does whose patience ends just then
        writer.close()

    async def use(client: Client) -> None:
        assert (await client.request("GET", "/one")).status == 200
        with pytest.raises(ConnectionFailedError, match="ended the connection without an answer"):
            await client.request("GET", "/two")

    asyncio.run(with_server(serve, use))
    assert seen == [b"/one", b"/two"]


def test_a_connection_that_the_server_ended_while_idle_is_not_used() -> None:
    connections: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(await read_request(reader))
        writer.write(ANSWER)
        writer.close()

    async def use(client: Client) -> None:
        for path in ("/one", "/two"):
            assert (await client.request("GET", path)).status == 200
            while client._idle and client._idle[0].is_open:
                await asyncio.sleep(0)

    asyncio.run(with_server(serve, use))
    assert connections == [b"/one", b"/two"]


def test_a_body_larger_than_what_is_read_at_once_comes_whole() -> None:
    body = bytes(range(256)) * 2000

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await reader.read()

    async def use(client: Client) -> None:
        assert len(body) > 7 * BUFFER_BYTES
        assert (await client.request("GET", "/metrics")).body == body

    asyncio.run(with_server(serve, use))


def test_bytes_that_nobody_asked_for_end_the_connection() -> None:
    connections: list[bytes] = []
    is_answered = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(await read_request(reader))
        writer.write(ANSWER)
        await is_answered.wait()
        writer.write(b"more")
        await reader.read()

    async def use(client: Client) -> None:
        for path in ("/one", "/two"):
            assert (await client.request("GET", path)).status == 200
            is_answered.set()
            while client._idle and client._idle[0].is_open:
                await asyncio.sleep(0)

    asyncio.run(with_server(serve, use))
    assert connections == [b"/one", b"/two"]


def test_what_came_while_the_loop_was_busy_has_the_time_at_which_it_came() -> None:
    """The piece of the second request came first, whichever of the two is read first."""
    times_ns: list[list[int]] = [[], []]

    async def receive(listener: socket.socket, stack: contextlib.ExitStack) -> None:
        client = Client(f"http://127.0.0.1:{listener.getsockname()[1]}")
        peers, connections, answers = [], [], []
        for own_ns in times_ns:
            answer, connection = await client.send(
                "GET", "/", b"", lambda _, at_ns, own_ns=own_ns: own_ns.append(at_ns)
            )
            peer, _ = listener.accept()
            peer.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n")
            peers.append(stack.enter_context(peer))
            connections.append(connection)
            answers.append(answer)
        while not all(answer.parser.status for answer in answers):
            await asyncio.sleep(0)
        for number in range(1, 1001):  # Linux begins to keep times a moment after the first socket has asked for them
            ready_ns = []
            for at in (1, 0):
                peers[at].sendall(b"piece")
                select.select([connections[at]._socket], [], [])
                ready_ns.append(time.perf_counter_ns())
            while any(len(own_ns) < number for own_ns in times_ns):
                await asyncio.sleep(0)
            if times_ns[1][-1] <= ready_ns[0] <= times_ns[0][-1] <= ready_ns[1]:
                break
        else:
            pytest.fail("the times are not the kernel's")
        for connection in connections:
            connection.close()
        await asyncio.gather(*(answer.ended for answer in answers), return_exceptions=True)

    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as stack:
        asyncio.run(receive(listener, stack))
