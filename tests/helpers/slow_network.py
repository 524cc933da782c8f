"""A network between a client and a server that is slow, cuts the bytes anywhere, joins them, or stops passing them."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

PIECES = (1, 37, 3, 211, 7, 89)
"""Bytes of each piece that is passed on, again and again: events, their framing and their characters are all cut."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """How the server's bytes reach the client. The client's reach the server at once."""

    latency_s: float = 0.0
    """Between the server's write and the client's read."""
    bytes_per_s: float | None = None
    """Passed on in small pieces, and cut inside every character of several bytes; None passes all at once."""
    hold_s: float = 0.0
    """How long a proxy that buffers collects what the server writes before it passes all of it on."""
    stalls_after: int | None = None
    """Bytes, of all connections together, after which no more pass."""


@contextlib.contextmanager
def slow_network(url: str, network: Network) -> Iterator[str]:
    """Gives an address from which the server at `url` is reached through such a network."""
    loop = asyncio.new_event_loop()
    proxy = _Proxy(urlsplit(url).port or 80, network)
    server = loop.run_until_complete(asyncio.start_server(proxy.serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end(server: asyncio.Server) -> None:
    server.close()
    connections = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in connections:
        task.cancel()
    await asyncio.gather(*connections, return_exceptions=True)


class _Proxy:
    """Passes the bytes of each connection on."""

    def __init__(self, port: int, network: Network) -> None:
        self._port, self._network = port, network
        self._num_passed = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            # A connection that either side ends is over.
            ways = [asyncio.create_task(way) for way in (_pass_at_once(reader, back), self._pass(there, writer))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            for end in (writer, back):
                end.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        network = self._network
        while data := await reader.read(65_536):
            await asyncio.sleep(network.latency_s + network.hold_s)
            if network.hold_s:
                with contextlib.suppress(TimeoutError):  # whatever else has come by now
                    data += await asyncio.wait_for(reader.read(1 << 20), 0.001)
            for piece in _cut(data) if network.bytes_per_s else [data]:
                if network.stalls_after is not None and self._num_passed + len(piece) > network.stalls_after:
                    await asyncio.Event().wait()
                writer.write(piece)
                await writer.drain()
                self._num_passed += len(piece)
                if network.bytes_per_s:
                    await asyncio.sleep(len(piece) / network.bytes_per_s)


async def _pass_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()


def _cut(data: bytes) -> Iterator[bytes]:
    """Yields the data in pieces. Each character of several bytes is cut after its first byte."""
    at = number = 0
    while at < len(data):
        end = min(at + PIECES[number % len(PIECES)], len(data))
        leads = (place for place in range(at, end) if data[place] >= 0xC0)
        end = min(end, next(leads, end) + 1)
        yield data[at:end]
        at, number = end, number + 1
