"""A cell under an open load: when its requests were due, what is in flight, and what a stopped run leaves."""

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from specdec_bench.archive import codec
from specdec_bench.archive.writer import RequestWriter
from specdec_bench.checkpoints.prompter import BytePrompter
from specdec_bench.config.schema.dataset import DemoDataset
from specdec_bench.config.schema.engine import SyntheticEngine
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.config.schema.load import ConstantLoad, LoadConfig, PoissonLoad
from specdec_bench.config.schema.model import ModelConfig
from specdec_bench.config.schema.sampling import SamplingConfig
from specdec_bench.config.schema.spec import NgramSpec, NoSpec, SpecConfig
from specdec_bench.engines.base import create
from specdec_bench.load.open import arrival_times
from specdec_bench.load.poisson import gaps
from specdec_bench.records.request import Prompt, RequestRecord
from specdec_bench.runner.measure import Measurement

SEED = 7

Measure = Callable[..., list[RequestRecord]]


@pytest.fixture
def measure(tmp_path: Path) -> Measure:
    """Returns a function that runs so many conversations of two turns, until `is_enough`, and returns the records."""

    def run(
        load: LoadConfig,
        num_prompts: int = 4,
        spec: SpecConfig | None = None,
        is_enough: Callable[[Measurement], bool] | None = None,
        **engine: float,
    ) -> list[RequestRecord]:
        config = ExperimentConfig(
            engine=SyntheticEngine(**({"ttft_ms": 0.0, "step_time_ms": 0.0} | engine)),  # type: ignore[arg-type]
            model=ModelConfig(name="m", path="p"),
            dataset=DemoDataset(),
            spec=spec or NgramSpec(),
            load=load,
            sampling=SamplingConfig(max_new_tokens=8),
            seed=SEED,
        )
        prompts = [Prompt(prompt_id=f"p{i}", category="c", turns=(f"{i}", "and then?")) for i in range(num_prompts)]
        path = tmp_path / "requests.jsonl"
        path.unlink(missing_ok=True)
        with RequestWriter(path) as writer:
            measurement = Measurement(config, prompts, create(config), BytePrompter(256), writer)
            asyncio.run(stopped(measurement, is_enough) if is_enough else measurement.run())
        decoder = msgspec.json.Decoder(RequestRecord)
        return [codec.decode(line, decoder) for line in path.read_bytes().splitlines()]

    return run


async def stopped(measurement: Measurement, is_enough: Callable[[Measurement], bool]) -> None:
    running = asyncio.create_task(measurement.run())
    while not is_enough(measurement):
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


def first_turns(records: list[RequestRecord]) -> list[RequestRecord]:
    return sorted((record for record in records if record.turn == 0), key=lambda record: record.scheduled_ns)


def test_first_turns_are_due_at_their_arrivals_and_are_sent_in_that_order(measure: Measure) -> None:
    load = PoissonLoad(rate=500, num_warmup=0)
    for spec in (NgramSpec(), NoSpec()):  # the same for a method and its baseline
        firsts = first_turns(measure(load, 6, spec))
        assert [record.prompt_id for record in firsts] == [f"p{i}" for i in range(6)]
        expected_s = list(itertools.islice(arrival_times(gaps(SEED), rate=500, ramp_s=0), 6))
        began_ns = firsts[0].scheduled_ns - expected_s[0] * 1e9
        due_s = [(record.scheduled_ns - began_ns) / 1e9 for record in firsts]
        assert due_s == pytest.approx(expected_s, abs=1e-8)


def test_nothing_is_sent_before_it_is_due(measure: Measure) -> None:
    for record in measure(PoissonLoad(rate=500, repeats=3, num_warmup=2, think_time_s=0.002)):
        assert record.sent_ns is not None
        assert record.sent_ns >= record.scheduled_ns


def test_a_later_turn_is_due_a_think_time_after_the_reply_before_it(measure: Measure) -> None:
    records = {(r.prompt_id, r.turn): r for r in measure(ConstantLoad(rate=1000, num_warmup=0, think_time_s=0.01))}
    assert len(records) == 8
    for (prompt_id, turn), record in records.items():
        if turn == 1:
            assert record.scheduled_ns == records[prompt_id, 0].steps[-1].received_ns + 10_000_000


def test_nobody_waits_for_a_slot(measure: Measure) -> None:
    """A reply takes a minute, and all four conversations are in flight together."""
    records = measure(
        ConstantLoad(rate=10_000, num_warmup=0), is_enough=lambda running: running.live.in_flight == 4, ttft_ms=60_000
    )
    assert [record.error.kind for record in records if record.error] == ["interrupted"] * 4


def test_a_stopped_run_records_those_in_flight_and_not_those_that_were_never_due(measure: Measure) -> None:
    """The second is due half a second after the first."""
    load = ConstantLoad(rate=2, num_warmup=0)
    (record,) = measure(load, is_enough=lambda running: running.live.in_flight == 1, ttft_ms=60_000)
    assert record.error is not None
    assert record.error.kind == "interrupted"
    slow = ConstantLoad(rate=0.001, num_warmup=0)
    assert measure(slow, is_enough=lambda running: running.phase == "measure") == []


def test_a_conversation_that_thinks_is_not_in_flight_and_its_next_turn_is_not_recorded(measure: Measure) -> None:
    load = ConstantLoad(rate=1000, num_warmup=0, think_time_s=3600)
    records = measure(load, is_enough=lambda running: running.live.finished == 4 and running.live.in_flight == 0)
    assert [(record.turn, record.error) for record in records] == [(0, None)] * 4


def test_the_warm_up_is_offered_as_the_load_is(measure: Measure) -> None:
    records = measure(ConstantLoad(rate=200, num_warmup=3))
    warmup = [record.scheduled_ns for record in records if record.phase == "warmup"]
    assert [later - earlier for earlier, later in itertools.pairwise(warmup)] == [5_000_000, 5_000_000]


def test_the_dataset_begins_again_until_enough_conversations_have_arrived(measure: Measure) -> None:
    records = measure(ConstantLoad(rate=1000, num_warmup=0, num_conversations=7), 3)
    firsts = [(record.prompt_id, record.repeat) for record in first_turns(records)]
    assert firsts == [("p0", 0), ("p1", 0), ("p2", 0), ("p0", 1), ("p1", 1), ("p2", 1), ("p0", 2)]
    assert len({record.request_id for record in records}) == len(records) == 14


def test_conversations_arrive_for_as_long_as_asked(measure: Measure) -> None:
    """At 0.005, 0.01, 0.015 and 0.02 s."""
    assert len(first_turns(measure(ConstantLoad(rate=200, num_warmup=0, duration_s=0.02), 3))) == 4


def test_what_waits_for_a_slot_is_timed_from_when_it_was_due(measure: Measure) -> None:
    """All are due within a millisecond, and each takes 20 ms."""
    load = ConstantLoad(rate=4000, num_warmup=0, max_in_flight=1)
    records = sorted(measure(load, 4, ttft_ms=20.0), key=lambda record: record.sent_ns or 0)
    for before, after in itertools.pairwise(records):
        assert after.sent_ns is not None
        assert after.sent_ns >= before.steps[-1].received_ns, "one at a time"
    firsts = first_turns(records)
    assert firsts[-1].scheduled_ns - firsts[0].scheduled_ns == 750_000
    assert (firsts[-1].sent_ns or 0) - firsts[-1].scheduled_ns >= 3 * 20_000_000 - 750_000
