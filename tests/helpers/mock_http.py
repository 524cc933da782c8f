"""What the mock servers share: HTTP by hand, the fault that the command line names, and the drafts of each step.

A mock server prints its port, and answers until it is killed.
"""

import asyncio
import itertools
import os
import ssl
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

ACCEPTED = (2, 0, 1, 3)
"""Drafts that the steps of a request accept, again and again."""
DRAFT_LENGTH = 3
STEP_S = 0.004
"""Between two events, so that each comes in a read of its own."""
FAULT = sys.argv[1] if len(sys.argv) > 1 else ""
KEY = os.environ.get("MOCK_KEY", "")
CERTIFICATE = os.environ.get("MOCK_CERTIFICATE")
"""The file of a certificate and its key: the server then speaks TLS."""
REDIRECT = os.environ.get("MOCK_REDIRECT", "")
"""A status and an address, `301 http://HOST:PORT`, to which all requests are sent on."""
HEADS = os.environ.get("MOCK_HEADS")
"""A file that gets the head of each request."""
FAULTY_FROM = 4
"""The request from which on most faults show, the first being number 1: the probe and the warm-up succeed."""

Respond = Callable[[asyncio.StreamWriter, str, str, bytes], Awaitable[None]]
"""Answers one request, given its method, path and body."""


def steps(num_tokens: int) -> list[int]:
    """Returns the number of drafts that each decode step accepts, until so many tokens were emitted."""
    found: list[int] = []
    emitted = 1
    for accepted in itertools.cycle(ACCEPTED):
        if emitted >= num_tokens:
            return found
        found.append(accepted)
        emitted += accepted + 1
    raise AssertionError


def merge(sizes: list[int]) -> list[int]:
    """Returns the sizes of events of which all but the first join two steps each, as a late event loop makes them."""
    return [sizes[0], *(sum(sizes[at : at + 2]) for at in range(1, len(sizes), 2))]


def serve(respond: Respond, needs_key: Callable[[str], bool]) -> None:
    """Runs a server. `needs_key` says of a path whether it answers only to the key, if there is one."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers the requests of one connection."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                method, path, _ = lines[0].split()
                if HEADS:
                    with Path(HEADS).open("ab") as file:
                        file.write(head)
                if REDIRECT:
                    status, address = REDIRECT.split()
                    write_answer(writer, int(status), b"", b"location: %s\r\n" % (address + path).encode())
                elif KEY and needs_key(path) and headers.get("authorization") != f"Bearer {KEY}":
                    write_answer(writer, 401, b'{"error":"Unauthorized"}')
                else:
                    await respond(writer, method, path, body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=_tls())
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(main())


def _tls() -> ssl.SSLContext | None:
    if CERTIFICATE is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE)
    return context


def write_answer(
    writer: asyncio.StreamWriter | asyncio.WriteTransport, status: int, content: bytes, more: bytes = b""
) -> None:
    writer.write(b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\n%s" % (status, more))
    writer.write(b"content-length: %d\r\n\r\n%s" % (len(content), content))


def write_chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(chunk(data))


def chunk(data: bytes) -> bytes:
    """Returns a piece of a body as chunked transfer has it."""
    return b"%x\r\n%s\r\n" % (len(data), data)
