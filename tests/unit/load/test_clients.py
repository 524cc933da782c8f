"""How a load is split over several clients, and how many there are."""

import asyncio
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator

import pytest

from specdec_bench.config.schema.engine import VLLMServerEngine
from specdec_bench.config.schema.load import ClosedLoad, ConstantLoad, LoadConfig, PoissonLoad, TraceLoad
from specdec_bench.config.schema.sampling import SamplingConfig
from specdec_bench.errors import ConfigError
from specdec_bench.load.base import Share, create
from specdec_bench.load.clients import num_clients
from specdec_bench.load.closed import Closed
from specdec_bench.runner.cell import check
from tests.helpers import build

S = 10**9


def share(index: int, number: int, claim: Callable[[], int] = lambda: 0, begins_ns: int = 0) -> Share:
    return Share(index=index, num_clients=number, begins_ns=begins_ns, claim=claim)


@pytest.mark.parametrize(
    ("total", "number", "parts"), [(7, 3, [3, 2, 2]), (6, 3, [2, 2, 2]), (2, 3, [1, 1, 0]), (5, 1, [5])]
)
def test_a_total_is_split_evenly_and_the_first_get_the_remainder(total: int, number: int, parts: list[int]) -> None:
    assert [share(index, number).of(total) for index in range(number)] == parts


def test_a_client_gets_the_conversations_that_it_claims() -> None:
    numbers: Iterator[int] = iter([0, 2, 3, 7])
    assert list(share(0, 2, lambda: next(numbers)).claimed("abcde")) == ["a", "c", "d"]


async def _run_parts(load: LoadConfig, num_conversations: int, number: int) -> tuple[list[list[str]], list[int]]:
    """Runs all parts in one loop. Returns what each started, and how many each had in flight at most."""
    claims = itertools.count()
    conversations = [str(item) for item in range(num_conversations)]
    started: list[list[str]] = [[] for _ in range(number)]
    most = [0] * number

    async def run(index: int) -> None:
        in_flight = 0

        async def start(conversation: str, scheduled_ns: int | None) -> None:
            nonlocal in_flight
            started[index].append(conversation)
            in_flight += 1
            most[index] = max(most[index], in_flight)
            for _ in range(3 + index):
                await asyncio.sleep(0)
            in_flight -= 1

        part = create(load, 0, num_conversations).part(share(index, number, lambda: next(claims)))
        await part.run(conversations, start)

    await asyncio.gather(*map(run, range(number)))
    return started, most


def test_clients_of_a_closed_load_share_its_slots_and_its_queue() -> None:
    started, most = asyncio.run(_run_parts(ClosedLoad(concurrency=5), 40, 2))
    assert most == [3, 2]
    assert sorted(map(int, itertools.chain(*started))) == list(range(40))
    assert all(part == sorted(part, key=int) for part in started)
    # The one whose conversations end sooner, in more slots, takes more of them: no slot is idle until all are taken.
    assert len(started[0]) > 24 > 16 > len(started[1])


def test_clients_of_an_open_load_take_every_nth_arrival_when_it_is_due() -> None:
    """4 a second from time 0 on: a client of three has the arrivals at 0.25 and 1.0, the others those in between."""
    due: dict[int, list[tuple[str, float]]] = {}

    async def run(index: int) -> None:
        async def start(conversation: str, scheduled_ns: int | None) -> None:
            assert scheduled_ns is not None
            due.setdefault(index, []).append((conversation, scheduled_ns / S))

        await create(ConstantLoad(rate=4), 0, 5).part(share(index, 3)).run("abcde", start)

    for index in range(3):
        asyncio.run(run(index))
    assert due == {0: [("a", 0.25), ("d", 1.0)], 1: [("b", 0.5), ("e", 1.25)], 2: [("c", 0.75)]}


def test_clients_of_an_open_load_split_its_limit() -> None:
    load = PoissonLoad(rate=100_000, max_in_flight=3)
    started, most = asyncio.run(_run_parts(load, 40, 2))
    assert most == [2, 1]
    assert [len(part) for part in started] == [20, 20]


@pytest.mark.parametrize(
    ("load", "num_turns", "num_cores", "number"),
    [
        (ClosedLoad(concurrency=256, clients="auto"), 1.0, 16, 1),
        (ClosedLoad(concurrency=257, clients="auto"), 1.0, 16, 2),
        (ClosedLoad(concurrency=4096, clients="auto"), 1.0, 64, 16),
        (ClosedLoad(concurrency=4096, clients="auto"), 1.0, 8, 7),
        (ClosedLoad(concurrency=4096, clients="auto"), 1.0, 1, 1),
        (ClosedLoad(concurrency=65536, clients="auto"), 1.0, 128, 64),
        (ClosedLoad(concurrency=4096, clients="5"), 1.0, 2, 5),
        # 256 tokens in each of 200 replies a second are 51,200 tokens a second; twice as many with two turns.
        (PoissonLoad(rate=200, clients="auto"), 1.0, 16, 2),
        (PoissonLoad(rate=200, clients="auto"), 2.0, 16, 4),
        (PoissonLoad(rate=200, max_in_flight=64, clients="auto"), 2.0, 16, 1),
        (PoissonLoad(rate=1, max_in_flight=4096, clients="auto"), 1.0, 16, 1),
        (TraceLoad(path="t", max_in_flight=600, clients="auto"), 1.0, 16, 3),
    ],
)
def test_how_many_auto_stands_for(load: LoadConfig, num_turns: float, num_cores: int, number: int) -> None:
    config = build.experiment(load=load, sampling=SamplingConfig(max_new_tokens=256))
    assert num_clients(config, num_turns, num_cores) == number


def test_auto_is_refused_where_nothing_says_how_many_are_needed() -> None:
    with pytest.raises(ConfigError, match=r"load\.clients=auto: nothing bounds"):
        TraceLoad(path="t", clients="auto")


@pytest.mark.parametrize("clients", ["2", "auto"])
def test_a_load_without_parts_is_for_one_client(clients: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a load can come from a plugin: those of the project all have parts."""
    monkeypatch.delattr(Closed, "part")
    config = build.experiment(engine=VLLMServerEngine(), load=ClosedLoad(concurrency=4, clients=clients))
    with pytest.raises(ConfigError) as caught:
        check(config)
    assert str(caught.value) == f"load.clients={clients}: load=closed cannot be split over clients; leave it at 1"


def test_no_number_is_claimed_twice_by_processes_that_share_the_file() -> None:
    claim = """
import os, sys
while (number := os.lseek(int(sys.argv[1]), 1, os.SEEK_CUR) - 1) < 20_000:
    print(number)
"""
    with tempfile.TemporaryFile() as file:
        descriptor = file.fileno()
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", claim, str(descriptor)], pass_fds=[descriptor], stdout=subprocess.PIPE
            )
            for _ in range(3)
        ]
        told = [process.communicate()[0] for process in processes]
        assert os.lseek(descriptor, 0, os.SEEK_CUR) == 20_000 + len(processes)
    assert sorted(map(int, b"".join(told).split())) == list(range(20_000))
