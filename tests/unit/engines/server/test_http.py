"""The HTTP client against servers that treat its connections badly."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from specdec_bench.engines.server.http import Client, ConnectionFailedError

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def with_server(serve: Serve, use: Callable[[Client], Awaitable[None]]) -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    client = Client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    try:
        await use(client)
    finally:
        await client.close()
        server.close()


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
