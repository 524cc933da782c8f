"""A small HTTP/1.1 client, which gives all data the time at which the kernel received them.

Benchmarks of servers are limited by their client. This one has one object for each connection and no task: asyncio
calls `buffer_updated`, which asks for that time, splits the bytes and hands the body on.
"""

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec

from specdec_bench.engines.server.framing import ResponseParser
from specdec_bench.engines.server.timed_socket import TimedSocket, connect
from specdec_bench.errors import EngineError, first_line_of, named

CONNECT_TIMEOUT_S = 30.0
IDLE_S = 4.0
"""How long an idle connection is kept. vLLM closes them after 5 s."""
BUFFER_BYTES = 65_536
"""Read at once at most."""
NAME_MISMATCHES = (62, 64)
"""A certificate is for other host names, or for other addresses. Source: OpenSSL, x509_vfy.h, X509_V_ERR_*_MISMATCH."""

OnBody = Callable[[bytes, int], None]
"""Takes a piece of the body and the time, in ns, at which it came."""


class ConnectionFailedError(EngineError):
    """The server could not be reached, or it ended the connection before the answer was complete."""


class Answer:
    """The answer to one request, as far as it has come."""

    __slots__ = ("_on_body", "body", "ended", "parser")

    def __init__(self, on_body: OnBody | None) -> None:
        self.parser = ResponseParser()
        self.body = bytearray()
        """What `on_body` did not get: the whole body without one, and that of an answer whose status is not 200."""
        self._on_body = on_body
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the answer is complete. Its exception says why it is not."""

    def receive(self, data: memoryview, arrival_ns: int) -> None:
        """Takes in bytes of the connection. Keeps no reference to them."""
        parser = self.parser
        piece = parser.feed(data)
        if piece:
            if self._on_body is not None and parser.status == 200:
                self._on_body(piece, arrival_ns)
            else:
                self.body += piece
        if parser.is_complete and not self.ended.done():
            self.ended.set_result(None)

    def fail(self, error: BaseException) -> None:
        """Ends the answer, unless it is complete."""
        if not self.ended.done():
            self.ended.set_exception(error)

    def check_status(self) -> None:
        """Refuses every status but 200.

        Raises:
            EngineError: with the server's own message.
        """
        status = self.parser.status
        if status == 200:
            return
        self.refuse_redirect()
        raise EngineError(f"HTTP {status}: {error_message(bytes(self.body))}")

    def refuse_redirect(self) -> None:
        """Refuses an answer that leads elsewhere. Its target is not the server that the user named the key for.

        Raises:
            EngineError: naming the target.
        """
        status = self.parser.status
        if 300 <= status < 400:
            place = self.parser.headers.get("location", "nowhere")
            raise EngineError(f"HTTP {status}: redirects are not followed, and this one leads to {place[:200]}")


class Connection(asyncio.BufferedProtocol):
    """One connection, with at most one request at a time."""

    def __init__(self, socket: TimedSocket, buffer: memoryview) -> None:
        """Takes the connected socket, and where to read to: what is read is taken in before the next read."""
        self.transport: asyncio.Transport | None = None
        self.idle_since_s = 0.0
        self._answer: Answer | None = None
        self._socket = socket
        self._buffer = buffer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport. asyncio switches Nagle's algorithm off."""
        self.transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Returns where to read to."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Hands the bytes on with their time. An error fails this request alone."""
        arrival_ns = self._socket.arrival_ns()
        answer = self._answer
        if answer is None:  # bytes that nobody asked for
            self.close()
            return
        try:
            answer.receive(self._buffer[:nbytes], arrival_ns)
        except Exception as error:  # noqa: BLE001  (asyncio would log it and raise it nowhere)
            answer.fail(error if isinstance(error, EngineError) else EngineError(named(error)))
            self.close()

    def eof_received(self) -> None:
        """Lets asyncio close the connection."""

    def connection_lost(self, error: Exception | None) -> None:
        """Ends the answer. Only one whose length was not announced may be complete."""
        answer, self.transport = self._answer, None
        if answer is None:
            return
        answer.parser.end()
        if answer.parser.is_complete:
            if not answer.ended.done():
                answer.ended.set_result(None)
            return
        reason = "ended the connection" if error is None else f"connection lost ({named(error)})"
        place = "in mid-answer" if answer.parser.status else "without an answer"
        answer.fail(ConnectionFailedError(f"the server {reason} {place}" if error is None else f"{reason} {place}"))

    @property
    def has_kernel_times(self) -> bool:
        """Whether the kernel tells when data came."""
        return self._socket.has_kernel_times

    @property
    def is_open(self) -> bool:
        """Whether it can take a request."""
        return self.transport is not None and not self.transport.is_closing()

    def send(self, head_and_body: bytes, answer: Answer) -> None:
        """Sends a request."""
        assert self.transport is not None
        self._answer = answer
        self.transport.write(head_and_body)

    def release(self) -> bool:
        """Ends the current request. Returns whether another can follow; if not, the connection is closed."""
        answer, self._answer = self._answer, None
        if self.is_open and answer is not None and answer.parser.is_reusable:
            self.idle_since_s = time.monotonic()
            return True
        self.close()
        return False

    def close(self) -> None:
        """Ends the connection at once. The server sees that its reader is gone, and drops the request."""
        if self.transport is not None:
            self.transport.abort()


@dataclass(frozen=True, kw_only=True)
class Response:
    """A complete answer to a control request."""

    status: int
    body: bytes

    def json(self) -> Any:
        """Returns the body as plain data.

        Raises:
            EngineError: it is not JSON.
        """
        try:
            return msgspec.json.decode(self.body)
        except msgspec.DecodeError as error:
            raise EngineError(f"the server's answer is not JSON ({named(error)}): {shorten(self.body)}") from None


class Client:
    """Requests to one server. Idle connections are used again for a few seconds."""

    def __init__(self, url: str, api_key: str | None = None, *, reuses_connections: bool = True) -> None:
        """Takes the server's address, with a path before its routes if it has one, and the key that it wants."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        self.url = url
        self._host, self._prefix = parts.hostname, parts.path.rstrip("/")
        self._ssl = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._ssl else 80)
        lines = [f"host: {parts.netloc}", "accept: */*", "accept-encoding: identity", "content-type: application/json"]
        if api_key is not None:
            lines.append(f"authorization: Bearer {api_key}")
        if not reuses_connections:
            lines.append("connection: close")
        self._headers = "\r\n".join(lines)
        self._reuses_connections = reuses_connections
        self.has_kernel_times = False
        """Whether the kernel tells when answers came; known once the first was released."""
        self._idle: list[Connection] = []
        self._buffer = memoryview(bytearray(BUFFER_BYTES))

    async def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, timeout_s: float = 60.0
    ) -> Response:
        """Returns the whole answer, whatever its status, but for a redirect.

        Raises:
            EngineError: there is none in time, it is not HTTP, or it is a redirect.
        """
        content = b"" if body is None else msgspec.json.encode(body)
        try:
            async with asyncio.timeout(timeout_s):
                answer, connection = await self.send(method, path, content)
                try:
                    await answer.ended
                finally:
                    self.release(connection)
        except TimeoutError:
            raise ConnectionFailedError(
                f"no answer from {self.url} to {method} {path} within {timeout_s:g} s"
            ) from None
        answer.refuse_redirect()
        return Response(status=answer.parser.status, body=bytes(answer.body))

    async def send(
        self, method: str, path: str, content: bytes, on_body: OnBody | None = None
    ) -> tuple[Answer, Connection]:
        """Sends a request, on an idle connection if there is one. The caller has to `release` the connection.

        Raises:
            ConnectionFailedError: the server cannot be reached.
        """
        head = (
            f"{method} {self._prefix}{path} HTTP/1.1\r\n{self._headers}\r\ncontent-length: {len(content)}\r\n\r\n"
        ).encode("latin-1")
        connection = self._take_idle() or await self._connect()
        answer = Answer(on_body)
        connection.send(head + content, answer)
        return answer, connection

    def release(self, connection: Connection) -> None:
        """Takes back a connection. If its answer is not complete, the connection is closed."""
        self.has_kernel_times = self.has_kernel_times or connection.has_kernel_times
        if connection.release():
            if self._reuses_connections:
                self._idle.append(connection)
            else:
                connection.close()

    def _take_idle(self) -> Connection | None:
        now_s = time.monotonic()
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open and now_s - connection.idle_since_s < IDLE_S:
                return connection
            connection.close()
        return None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                timed = await connect(self._host, self._port)
                _, connection = await loop.create_connection(
                    lambda: Connection(timed, self._buffer),
                    sock=timed,
                    ssl=self._ssl,
                    server_hostname=self._host if self._ssl else None,
                )
        except TimeoutError:
            raise ConnectionFailedError(f"no connection to {self.url} within {CONNECT_TIMEOUT_S:g} s") from None
        except ssl.SSLCertVerificationError as error:
            raise ConnectionFailedError(f"its certificate is not valid: {_distrust(error)}") from None
        except OSError as error:
            reason = error.strerror or named(error)
            raise ConnectionFailedError(f"no connection to {self.url}: {reason}") from None
        return connection

    async def close(self) -> None:
        """Closes the idle connections."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()
        await asyncio.sleep(0)  # the transports close in the loop's next turn


def _distrust(error: ssl.SSLCertVerificationError) -> str:
    """Returns why a server's certificate is not trusted. If the names differ, trusting its issuer would not help."""
    if error.verify_code in NAME_MISMATCHES:
        return str(error.verify_message).removesuffix(".")
    return f"{error.verify_message}; if it is the server's, name the file of its issuer's in SSL_CERT_FILE"


class _Error(msgspec.Struct):
    message: str | None = None


class _ErrorBody(msgspec.Struct):
    error: _Error | str | None = None
    message: str | None = None
    detail: str | None = None


def error_message(body: bytes) -> str:
    """Returns what an answer's body says of an error, in one line."""
    with contextlib.suppress(msgspec.DecodeError):
        told = msgspec.json.decode(body, type=_ErrorBody)
        message = told.error.message if isinstance(told.error, _Error) else told.error
        if text := message or told.message or told.detail:
            return first_line_of(text)[:500] or "no message"
    return shorten(body)


def shorten(body: bytes) -> str:
    """Returns the beginning of a body, in one line."""
    return first_line_of(body[:300].decode("utf-8", "replace")) or "an empty body"
