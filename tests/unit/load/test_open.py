"""The open loops: when conversations are due, who waits for whom, and how it ends. Time is the test's."""

import asyncio
import itertools
import math
from collections.abc import Iterable, Iterator

import pytest

from specdec_bench.config.schema.load import (
    OPTIONS,
    ClosedLoad,
    ConstantLoad,
    LoadConfig,
    OpenLoad,
    PoissonLoad,
    TraceLoad,
)
from specdec_bench.load import poisson
from specdec_bench.load.base import create
from specdec_bench.load.open import Open, arrival_times

BEGAN_NS = 1_000
S = 10**9


class Clock:
    """Stands still but for the sleeps of the load; each may take longer or shorter than it was asked to."""

    def __init__(self, wrong_by_s: Iterable[float] = ()) -> None:
        self.now_ns = BEGAN_NS
        self._wrong_by_s = iter(wrong_by_s)

    def read(self) -> int:
        return self.now_ns

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)  # what is ready runs before time passes
        self.now_ns += round((seconds + next(self._wrong_by_s, 0.0)) * S)


class Starter:
    """Runs conversations that last so many turns of the event loop, and remembers when each was started and due."""

    def __init__(self, clock: Clock, turns: int = 0) -> None:
        self._clock, self._turns = clock, turns
        self.started: list[object] = []
        self.due_s: list[float] = []
        self.sent_s: list[float] = []
        self.ended: list[object] = []
        self.cancelled: list[object] = []
        self.num_tasks: list[int] = []

    async def start(self, conversation: object, scheduled_ns: int | None) -> None:
        assert scheduled_ns is not None
        self.started.append(conversation)
        self.due_s.append((scheduled_ns - BEGAN_NS) / S)
        self.sent_s.append((self._clock.now_ns - BEGAN_NS) / S)
        self.num_tasks.append(len(asyncio.all_tasks()))
        try:
            for _ in range(self._turns):
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.cancelled.append(conversation)
            raise
        if conversation == "broken":
            raise ArithmeticError(conversation)
        self.ended.append(conversation)


def open_load(clock: Clock, config: OpenLoad, gaps: Iterable[float] = ()) -> Open:
    rate, ramp_s = getattr(config, "rate", 1.0), getattr(config, "ramp_s", 0.0)
    return Open(config, lambda: arrival_times(gaps or itertools.repeat(1.0), rate, ramp_s), 5, clock.read, clock.sleep)


def run(
    conversations: Iterable[object],
    clock: Clock | None = None,
    turns: int = 0,
    gaps: Iterable[float] = (),
    **load: float,
) -> Starter:
    clock = clock or Clock()
    starter = Starter(clock, turns)
    config = ConstantLoad(**load)
    asyncio.run(open_load(clock, config, gaps).run(conversations, starter.start))
    return starter


# ---------------------------------------------------------------- when they are due


def test_four_a_second_are_a_quarter_of_a_second_apart() -> None:
    starter = run("abcd", rate=4)
    assert starter.started == ["a", "b", "c", "d"]
    assert starter.due_s == starter.sent_s == [0.25, 0.5, 0.75, 1.0]


def test_gaps_are_divided_by_the_rate() -> None:
    assert run("abc", gaps=[1.0, 0.5, 2.5], rate=10).due_s == [0.1, 0.15, 0.4]


def test_a_ramp_begins_with_no_arrivals_and_ends_at_the_rate() -> None:
    """From 0 to 4 a second within 2 s: 4 are expected in it, the n-th at sqrt(n) s; then one every quarter."""
    times = list(itertools.islice(arrival_times(itertools.repeat(1.0), rate=4, ramp_s=2), 6))
    assert times == [1.0, math.sqrt(2), math.sqrt(3), 2.0, 2.25, 2.5]


def test_poisson_gaps_are_exponential_and_of_mean_one() -> None:
    gaps = list(itertools.islice(poisson.gaps(3), 100_000))
    mean = sum(gaps) / len(gaps)
    # Of an exponential distribution the standard deviation is the mean, and a share of 1/e is above it.
    assert mean == pytest.approx(1, abs=4 / math.sqrt(len(gaps)))
    assert math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) == pytest.approx(1, abs=0.03)
    assert sum(gap > 1 for gap in gaps) / len(gaps) == pytest.approx(math.exp(-1), abs=0.01)


def drawn(seed: int, **load: float) -> list[float]:
    """Returns when conversations are due, in seconds."""
    built = create(PoissonLoad(**load), seed, 5)
    assert isinstance(built, Open)
    clock = Clock()
    built._clock, built._sleep = clock.read, clock.sleep
    starter = Starter(clock)
    asyncio.run(built.run("abcde", starter.start))
    return starter.due_s


def test_the_same_seed_gives_the_same_arrivals() -> None:
    assert drawn(0) == drawn(0) != drawn(1)
    assert drawn(0, rate=2) == pytest.approx([time / 2 for time in drawn(0)], abs=1e-9)
    # Frozen: archived runs are replayed with it. -ln(1 - u), u of Python's random.Random(0): 0.8444, 0.7580.
    assert drawn(0)[:2] == pytest.approx([1.860607, 1.860607 + 1.418621], abs=1e-5)


def test_a_load_that_runs_again_begins_again() -> None:
    """The warm-up draws the same arrivals and takes none from the measured window."""
    clock = Clock()
    load = Open(PoissonLoad(), lambda: arrival_times(poisson.gaps(5), 1, 0), 3, clock.read, clock.sleep)
    due_s = []
    for _ in range(2):
        clock.now_ns, starter = BEGAN_NS, Starter(clock)
        asyncio.run(load.run("abc", starter.start))
        due_s.append(starter.due_s)
    assert due_s[0] == due_s[1]


# ---------------------------------------------------------------- who waits for whom


def test_nobody_waits_for_those_before() -> None:
    starter = run("abcd", turns=1000, rate=1)
    assert starter.sent_s == [1.0, 2.0, 3.0, 4.0]
    assert starter.ended == ["a", "b", "c", "d"]


def test_what_is_sent_late_keeps_the_time_at_which_it_was_due() -> None:
    """The loop was held up for 2.5 s while it waited for the first: three are due by then."""
    starter = run("abcd", Clock(wrong_by_s=[2.5]), rate=1)
    assert starter.due_s == [1.0, 2.0, 3.0, 4.0]
    assert starter.sent_s == [3.5, 3.5, 3.5, 4.0]
    assert starter.started == ["a", "b", "c", "d"]


def test_nothing_is_sent_before_it_is_due() -> None:
    """Timers may fire early."""
    assert run("ab", Clock(wrong_by_s=[-0.25, 0.0, -0.5]), rate=1).sent_s == [1.0, 2.0]


def test_a_conversation_has_a_task_from_when_it_is_due() -> None:
    """Beside the one that offers them."""
    assert run(range(5), turns=1000, rate=1).num_tasks == [2, 3, 4, 5, 6]
    assert run(range(5), turns=0, rate=1).num_tasks == [2] * 5, "those that have ended are gone"


def test_conversations_are_taken_one_by_one() -> None:
    clock, taken = Clock(), []

    def conversations() -> Iterator[object]:
        for number in range(10**12):
            taken.append((number, (clock.now_ns - BEGAN_NS) / S))
            yield "broken" if number == 3 else number

    with pytest.raises(ExceptionGroup):
        run(conversations(), clock, rate=1)
    assert taken[:5] == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]
    assert len(taken) < 10


def test_the_next_turn_is_due_a_think_time_after_the_reply() -> None:
    clock = Clock()
    load = open_load(clock, ConstantLoad(think_time_s=1.5))
    assert asyncio.run(load.wait_for_turn(BEGAN_NS)) == BEGAN_NS + 1.5 * S == clock.now_ns
    clock.now_ns += 2 * S  # until the next prompt was encoded
    assert asyncio.run(load.wait_for_turn(clock.now_ns - 2 * S)) == clock.now_ns - 0.5 * S, "late, and it shows"


# ---------------------------------------------------------------- how it ends


def test_a_cancelled_run_waits_for_those_in_flight_and_starts_no_more() -> None:
    starters: list[Starter] = []

    async def stop_soon() -> None:
        clock = Clock()
        starters.append(Starter(clock, turns=1000))
        offering = asyncio.create_task(open_load(clock, ConstantLoad()).run(range(1000), starters[0].start))
        while len(starters[0].started) < 3:
            await asyncio.sleep(0)
        offering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await offering

    asyncio.run(stop_soon())
    started = starters[0].started
    assert started == starters[0].cancelled == list(range(len(started)))
    assert len(started) in (3, 4), "another one may have been due by then"


def test_an_exception_cancels_the_others_and_starts_no_more() -> None:
    clock = Clock()
    starter = Starter(clock, turns=5)
    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(open_load(clock, ConstantLoad()).run(["broken", *range(100)], starter.start))
    assert [type(error) for error in caught.value.exceptions] == [ArithmeticError]
    assert len(starter.started) < 10
    assert starter.started == ["broken", *starter.ended, *starter.cancelled]


def test_no_conversations_are_no_work() -> None:
    assert run([], rate=1).started == []


# ---------------------------------------------------------------- what a load says of itself


@pytest.mark.parametrize("name", OPTIONS)
def test_every_load_has_its_module_and_its_label(name: str) -> None:
    config = OPTIONS[name](**({"arrivals": "0.5"} if name == "trace" else {}))
    assert create(config, 0, 1).num_conversations == 1
    assert (config.label.axis, config.label.value) == (config.AXIS, getattr(config, config.AXIS))
    assert config.label.title
    assert config.label.unit


@pytest.mark.parametrize(
    ("config", "text", "max_in_flight"),
    [
        (ClosedLoad(concurrency=16), "16 in flight", 16),
        (PoissonLoad(rate=20), "20 conversations/s", None),
        (ConstantLoad(rate=2.5), "2.5 conversations/s", None),
        (ConstantLoad(rate=2.5, max_in_flight=8), "2.5 conversations/s", 8),
        (TraceLoad(speed=2), "2 x the trace's speed", None),
    ],
)
def test_labels_by_hand(config: LoadConfig, text: str, max_in_flight: int | None) -> None:
    assert (config.label.text, config.max_in_flight) == (text, max_in_flight)


# ---------------------------------------------------------------- how many, and how many at a time


@pytest.mark.parametrize(
    ("load", "number"),
    [
        (ConstantLoad(rate=4), 7),  # as many as it is given
        (ConstantLoad(rate=4, num_conversations=3), 3),
        (ConstantLoad(rate=4, duration_s=1), 4),  # at 0.25, 0.5, 0.75 and 1 s
        (ConstantLoad(rate=4, duration_s=0.9), 3),
        (ConstantLoad(rate=4, duration_s=0.2), 0),
        (ConstantLoad(rate=4, ramp_s=2, duration_s=2), 4),  # half of 8
        (TraceLoad(arrivals="0.0 0.5 0.5 2.0"), 4),
        (TraceLoad(arrivals="0.0 0.5 0.5 2.0", duration_s=1), 3),
        (TraceLoad(arrivals="0.0 0.5 0.5 2.0", duration_s=1, speed=2), 4),
        (TraceLoad(arrivals="0.0 0.5 0.5 2.0", num_conversations=2), 2),
    ],
)
def test_numbers_of_conversations_by_hand(load: OpenLoad, number: int) -> None:
    assert create(load, 0, 7).num_conversations == number


def test_a_trace_is_run_as_fast_as_asked() -> None:
    load = create(TraceLoad(arrivals="0.0 0.5 0.5 2.0", speed=2), 0, 1)
    assert isinstance(load, Open)
    assert list(load._arrivals()) == [0, 0.25, 0.25, 1.0]


def test_another_arrival_seed_changes_the_arrivals_alone() -> None:
    assert drawn(0, arrival_seed=1) == drawn(1) == drawn(7, arrival_seed=1)


class Server:
    """Replies a second after it is sent, and remembers how many were in flight."""

    def __init__(self, clock: Clock, load: Open, num_turns: int = 1) -> None:
        self._clock, self._load, self._num_turns = clock, load, num_turns
        self.in_flight = self.most = 0
        self.sent: list[tuple[object, int]] = []

    async def start(self, conversation: object, scheduled_ns: int | None) -> None:
        for turn in range(self._num_turns):
            self.sent.append((conversation, turn))
            self.in_flight += 1
            self.most = max(self.most, self.in_flight)
            for _ in range(20):
                await asyncio.sleep(0)
            self.in_flight -= 1
            if turn + 1 < self._num_turns:
                await self._load.wait_for_turn(self._clock.now_ns)


@pytest.mark.parametrize("num_turns", [1, 3])
def test_no_more_are_in_flight_than_allowed(num_turns: int) -> None:
    """All eight are due at once. With several turns, those that wait go first: they were due before."""
    clock = Clock()
    load = open_load(clock, ConstantLoad(max_in_flight=3), gaps=[0.0] * 8)
    server = Server(clock, load, num_turns)
    asyncio.run(load.run(range(8), server.start))
    assert server.most == 3
    assert server.sent == [(number, turn) for turn in range(num_turns) for number in range(8)]


def test_a_conversation_that_thinks_holds_no_slot() -> None:
    clock = Clock()
    load = open_load(clock, ConstantLoad(max_in_flight=1, think_time_s=3600), gaps=[0.0] * 2)
    server = Server(clock, load, 2)
    asyncio.run(load.run("ab", server.start))
    assert server.sent == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert server.most == 1
