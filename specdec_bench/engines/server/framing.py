"""Splits the bytes of an HTTP/1.1 answer, and of the event stream in its body. Does no input or output."""

from collections.abc import Callable

from specdec_bench.errors import EngineError

MOST_HEAD_BYTES = 65_536
MOST_LINE_BYTES = 64 << 20
"""Of one event's line. Servers that repeat all of a reply's tokens in each event write long ones."""


class ResponseParser:
    """One answer: its status, its headers, and its body in pieces."""

    __slots__ = ("_buffer", "_is_kept_open", "_read", "_remaining", "headers", "is_complete", "status")

    def __init__(self) -> None:
        self.status = 0
        """0 until the head is complete."""
        self.headers: dict[str, str] = {}
        """Names in lower case."""
        self.is_complete = False
        """Whether the body has ended as its framing says."""
        self._buffer = bytearray()
        self._is_kept_open = False
        self._remaining = 0
        """Bytes of the body, or of its current chunk, that are still to come."""
        self._read: Callable[[list[bytes]], bool] = self._read_head

    @property
    def is_reusable(self) -> bool:
        """Whether another request can follow on the same connection."""
        return self.is_complete and not self._buffer and self._is_kept_open

    def feed(self, data: bytes | memoryview) -> bytes:
        """Takes in bytes as they came, however they were cut. Returns what they add to the body.

        Raises:
            EngineError: they are not HTTP/1.1.
        """
        self._buffer += data
        pieces: list[bytes] = []
        while not self.is_complete and self._read(pieces):
            pass
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def end(self) -> None:
        """Takes in the end of the connection. Only a body without a length may end with it."""
        if self.status and self._read == self._read_until_close:
            self.is_complete = True

    def _line(self, most: int = MOST_HEAD_BYTES) -> bytes | None:
        """Returns the next line without its end; None if it is not complete."""
        at = self._buffer.find(b"\r\n")
        if at < 0:
            if len(self._buffer) > most:
                raise EngineError(f"the answer is not HTTP/1.1: a line of more than {most} bytes")
            return None
        line = bytes(self._buffer[:at])
        del self._buffer[: at + 2]
        return line

    def _read_head(self, _: list[bytes]) -> bool:
        at = self._buffer.find(b"\r\n\r\n")
        if not b"HTTP/1.".startswith(self._buffer[:7]):
            raise EngineError(f"the answer is not HTTP/1.1: it begins with {bytes(self._buffer[:20])!r}")
        if at < 0:
            if len(self._buffer) > MOST_HEAD_BYTES:
                raise EngineError(f"the answer is not HTTP/1.1: a head of more than {MOST_HEAD_BYTES} bytes")
            return False
        first, *lines = bytes(self._buffer[:at]).decode("latin-1").split("\r\n")
        del self._buffer[: at + 4]
        status = first.split(" ")[1:2]
        if not status or not status[0].isdecimal() or len(status[0]) != 3:
            raise EngineError(f"the answer is not HTTP/1.1: it begins with {first[:80]!r}")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if 100 <= int(status[0]) < 200:  # the answer proper follows
            return True
        self.status, self.headers = int(status[0]), headers
        wishes = {wish.strip() for wish in headers.get("connection", "").lower().split(",")}
        self._is_kept_open = "close" not in wishes and (not first.startswith("HTTP/1.0") or "keep-alive" in wishes)
        content, transfer = (headers.get(f"{kind}-encoding", "identity").lower() for kind in ("content", "transfer"))
        if content != "identity" or transfer not in ("identity", "chunked"):
            raise EngineError(
                f"HTTP {self.status}: the answer is encoded as nobody asked for (content-encoding: {content[:40]}, "
                f"transfer-encoding: {transfer[:40]})"
            )
        if transfer == "chunked":
            self._read = self._read_size
        elif (length := headers.get("content-length")) is not None:
            if not length.isdecimal():
                raise EngineError(f"the answer is not HTTP/1.1: content-length: {length[:80]!r}")
            self._remaining = int(length)
            self._read = self._read_length
            self.is_complete = self._remaining == 0
        elif self.status in (204, 304):
            self.is_complete = True
        else:
            self._read = self._read_until_close
        return True

    def _read_size(self, _: list[bytes]) -> bool:
        line = self._line()
        if line is None:
            return False
        size = line.partition(b";")[0].strip()
        try:
            self._remaining = int(size, 16)
        except ValueError:
            raise EngineError(f"the answer's body is not chunked as HTTP/1.1 has it: a size of {size[:20]!r}") from None
        if self._remaining < 0:
            raise EngineError(f"the answer's body is not chunked as HTTP/1.1 has it: a size of {size[:20]!r}")
        self._read = self._read_chunk if self._remaining else self._read_trailer
        return True

    def _read_chunk(self, pieces: list[bytes]) -> bool:
        if self._remaining:
            self._take(pieces)
        if self._remaining or len(self._buffer) < 2:
            return False
        if self._buffer[:2] != b"\r\n":
            raise EngineError("the answer's body is not chunked as HTTP/1.1 has it: a chunk is longer than its size")
        del self._buffer[:2]
        self._read = self._read_size
        return True

    def _read_trailer(self, _: list[bytes]) -> bool:
        line = self._line()
        self.is_complete = line == b""
        return line is not None

    def _read_length(self, pieces: list[bytes]) -> bool:
        self._take(pieces)
        self.is_complete = self._remaining == 0
        return False

    def _read_until_close(self, pieces: list[bytes]) -> bool:
        self._remaining = len(self._buffer)
        self._take(pieces)
        return False

    def _take(self, pieces: list[bytes]) -> None:
        piece = bytes(self._buffer[: self._remaining])
        if piece:
            del self._buffer[: len(piece)]
            self._remaining -= len(piece)
            pieces.append(piece)


class EventSplitter:
    """Splits an event stream into the data of its events. Comments, such as keep-alive lines, are left out.

    Source: the HTML standard, server-sent events.
    """

    __slots__ = ("_data", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, body: bytes) -> list[bytes]:
        """Takes in a piece of the body, cut anywhere, inside a character too. Returns the data of each complete event.

        Raises:
            EngineError: a line is too long.
        """
        *lines, self._rest = (self._rest + body).split(b"\n")
        if len(self._rest) > MOST_LINE_BYTES:
            raise EngineError(f"the server wrote an event of more than {MOST_LINE_BYTES} bytes")
        events: list[bytes] = []
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                if data:  # an empty one, which some proxies send to keep a connection alive, is no event
                    events.append(data)
                self._data = []
        return events

    @property
    def is_between_events(self) -> bool:
        """Whether nothing of an incomplete event is left."""
        return not self._rest.strip() and not self._data
