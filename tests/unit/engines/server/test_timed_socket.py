"""The times of what a socket received."""

import asyncio
import select
import socket
import time
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from specdec_bench.engines.server import timed_socket
from specdec_bench.engines.server.timed_socket import SO_TIMESTAMPNS, TIMESPEC, TimedSocket, connect


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as found:
        yield found


class Told(TimedSocket):
    """A socket of which the kernel says these times, in ns of CLOCK_REALTIME, read after read."""

    def __init__(self, *told_ns: int | None, num_bytes: int = 3) -> None:
        super().__init__(socket.AF_INET, socket.SOCK_STREAM, 0)
        self._times, self._num_bytes = iter(told_ns), num_bytes

    def recvmsg_into(self, *_: Any) -> tuple[int, list[tuple[int, int, bytes]], int, Any]:
        told_ns = next(self._times)
        if told_ns is None:
            return self._num_bytes, [], 0, None
        told = TIMESPEC.pack(*divmod(told_ns, 1_000_000_000))
        return self._num_bytes, [(socket.SOL_SOCKET, SO_TIMESTAMPNS, told)], 0, None


def arrivals_ns(
    monkeypatch: pytest.MonkeyPatch,
    told_ns: Sequence[int | None],
    clocks_ns: Sequence[tuple[int, int, int]],
    **more: Any,
) -> list[int]:
    """Returns the times of reads, each with the readings before, of CLOCK_REALTIME, and after."""
    own_ns = iter([0, *(reading for before, _, after in clocks_ns for reading in (before, after))])
    real_ns = iter([real for _, real, _ in clocks_ns])
    fake = SimpleNamespace(perf_counter_ns=own_ns.__next__, time_ns=real_ns.__next__)
    monkeypatch.setattr(timed_socket, "time", fake)
    found = []
    with Told(*told_ns, **more) as told:
        for _ in told_ns:
            told.recv_into(bytearray(8))
            found.append(told.arrival_ns())
    return found


def test_the_kernels_time_is_converted_to_the_measuring_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """It came 2 ms before CLOCK_REALTIME was read, which was at 50,000,300 at the latest."""
    now_s_ns = 1_700_000_000_000_000_000
    found = arrivals_ns(monkeypatch, [now_s_ns - 2_000_000], [(50_000_000, now_s_ns, 50_000_300)])
    assert found == [48_000_300]


@pytest.mark.parametrize(
    ("told_ns", "clocks_ns", "num_bytes"),
    [
        (None, (50_000_000, 900_000_000, 50_000_300), 3),  # the kernel says nothing
        (899_000_000, (50_000_000, 900_000_000, 50_010_000), 3),  # the clocks were read 10 µs apart
        (899_000_000, (50_000_000, 900_000_000, 50_000_300), 8),  # the buffer is full: of an earlier segment
        (900_000_001, (50_000_000, 900_000_000, 50_000_300), 3),  # after it was read: the clock was set back
        (849_999_699, (50_000_000, 900_000_000, 50_000_300), 3),  # before the socket was made: it was set forward
    ],
)
def test_without_a_time_that_can_be_it_is_that_of_the_call(
    monkeypatch: pytest.MonkeyPatch, told_ns: int | None, clocks_ns: tuple[int, int, int], num_bytes: int
) -> None:
    assert arrivals_ns(monkeypatch, [told_ns], [clocks_ns], num_bytes=num_bytes) == [clocks_ns[2]]


def test_no_time_is_before_that_of_the_read_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """CLOCK_REALTIME was set forward by 1 ms in between, so the second seems to have come at 49,500,000."""
    found = arrivals_ns(
        monkeypatch,
        [899_990_000, 900_100_000],
        [(50_000_000, 900_000_000, 50_000_000), (50_200_000, 901_300_000, 50_200_000)],
    )
    assert found == [49_990_000, 50_200_000]


def test_the_kernels_time_is_of_one_read_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    own_ns = iter([0, 50_000_000, 50_000_000, 60_000_000, 60_000_000])
    fake = SimpleNamespace(perf_counter_ns=own_ns.__next__, time_ns=lambda: 900_000_000)
    monkeypatch.setattr(timed_socket, "time", fake)
    with Told(899_000_000) as told:
        told.recv_into(bytearray(8))
        assert [told.arrival_ns(), told.arrival_ns()] == [49_000_000, 60_000_000]


def test_what_waits_in_the_socket_has_the_time_at_which_it_came(listener: socket.socket) -> None:
    timed = asyncio.run(connect(*listener.getsockname()))
    peer, _ = listener.accept()
    buffer = bytearray(8)
    with timed, peer:
        for _ in range(1000):  # Linux begins to keep times a moment after the first socket has asked for them
            sent_ns = time.perf_counter_ns()
            peer.send(b"one")
            select.select([timed], [], [])
            ready_ns = time.perf_counter_ns()
            time.sleep(0.001)
            assert timed.recv_into(buffer) == 3
            arrival_ns = timed.arrival_ns()
            assert sent_ns <= arrival_ns <= time.perf_counter_ns()
            if arrival_ns <= ready_ns:
                break
        else:
            pytest.fail("no time was the kernel's")
    assert buffer[:3] == b"one"


def address_info(port: int) -> tuple[Any, ...]:
    return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as once:
        port: int = once.getsockname()[1]
    return port


def test_of_several_addresses_the_first_that_answers_is_taken(listener: socket.socket) -> None:
    port = listener.getsockname()[1]

    async def connected() -> TimedSocket:
        loop = asyncio.get_running_loop()

        async def resolve(*_: Any, **__: Any) -> list[Any]:
            return [address_info(closed_port()), address_info(port)]

        loop.getaddrinfo = resolve  # type: ignore[method-assign]
        return await connect("two.example", 1)

    with asyncio.run(connected()) as timed:
        assert timed.getpeername() == ("127.0.0.1", port)


def test_where_nothing_listens_the_address_is_named() -> None:
    port = closed_port()
    with pytest.raises(ConnectionRefusedError, match=rf"Connect call failed \('127.0.0.1', {port}\)"):
        asyncio.run(connect("127.0.0.1", port))
