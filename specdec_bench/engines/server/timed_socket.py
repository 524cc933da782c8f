"""A TCP socket that knows when the kernel received what was read from it.

Of many sockets that are ready at once, a program reads one after another, and it may have waited for a CPU before. On
Linux the kernel keeps the time at which a segment came (SO_TIMESTAMPNS), and tells it to `recvmsg`.
"""

import asyncio
import contextlib
import socket
import struct
import sys
import time
from typing import Any

SO_TIMESTAMPNS = 35
"""Source: Linux, include/uapi/asm-generic/socket.h. Python has no name for it."""
TIMESPEC = struct.Struct("=qq")
"""Seconds and nanoseconds of CLOCK_REALTIME, as 64-bit Linux tells them."""
LONGEST_READING_NS = 10_000
"""Of the clocks. If reading them took longer, they were not read at one instant."""


class TimedSocket(socket.socket):
    """Reads for asyncio's transports, which call `recv_into` where the protocol is a BufferedProtocol."""

    __slots__ = ("_last_ns", "_told", "has_kernel_times")

    def __init__(self, family: int, kind: int, protocol: int) -> None:
        super().__init__(family, kind, protocol)
        self.has_kernel_times = False
        """Whether the kernel said that it will tell them."""
        self._last_ns = time.perf_counter_ns()
        self._told: bytes | None = None
        """The kernel's time of what was read last, as it told it."""
        if sys.platform == "linux" and sys.maxsize > 2**32:
            with contextlib.suppress(OSError):  # a sandbox may not have it
                self.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
                self.has_kernel_times = True

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:  # noqa: ARG002
        """Reads into the whole buffer, whatever `nbytes` is. Returns the number of bytes."""
        size, ancillary, _, _ = self.recvmsg_into((buffer,), socket.CMSG_SPACE(TIMESPEC.size), flags)
        # The time is that of the last segment of which nothing is left. If the buffer is full, there may be a rest.
        self._told = ancillary[0][2] if ancillary and size < len(buffer) else None
        return size

    def arrival_ns(self) -> int:
        """Returns when the last bytes that were read came, on the clock of `time.perf_counter_ns`.

        It is the kernel's time once after each read. Where there is none, it is the time of this call.
        """
        told, self._told = self._told, None
        before_ns, real_ns, now_ns = time.perf_counter_ns(), time.time_ns(), time.perf_counter_ns()
        arrival_ns = now_ns
        if told is not None and now_ns - before_ns < LONGEST_READING_NS:
            seconds, rest_ns = TIMESPEC.unpack(told)
            came_ns = now_ns - (real_ns - seconds * 1_000_000_000 - rest_ns)
            if self._last_ns <= came_ns <= now_ns:  # else CLOCK_REALTIME was set in between
                arrival_ns = came_ns
        self._last_ns = arrival_ns
        return arrival_ns


async def connect(host: str, port: int) -> TimedSocket:
    """Returns a socket that is connected to the first of the host's addresses at which one answers.

    Raises:
        OSError: there is none. It is that of the last address.
    """
    loop, failure = asyncio.get_running_loop(), OSError(f"{host} has no address")
    try:  # of an address, without a thread
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for family, kind, protocol, _, address in found:
        try:
            timed = TimedSocket(family, kind, protocol)
        except OSError as error:  # a host without IPv6
            failure = error
            continue
        try:
            timed.setblocking(False)
            await loop.sock_connect(timed, address)
        except OSError as error:
            timed.close()
            failure = error
        except BaseException:
            timed.close()
            raise
        else:
            return timed
    raise failure
