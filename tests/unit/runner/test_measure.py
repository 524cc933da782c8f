"""A cell's requests, in this process, on the synthetic engine or on one that remembers what it was asked."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from specdec_bench.archive import RequestWriter, codec
from specdec_bench.checkpoints.prompter import BytePrompter
from specdec_bench.config.identity import request_seed
from specdec_bench.config.schema.dataset import DemoDataset
from specdec_bench.config.schema.engine import SyntheticEngine
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.config.schema.load import ClosedLoad
from specdec_bench.config.schema.model import ModelConfig
from specdec_bench.config.schema.sampling import SamplingConfig
from specdec_bench.config.schema.spec import NgramSpec, NoSpec, SpecConfig
from specdec_bench.engines.base import Engine, create
from specdec_bench.errors import ConfigError
from specdec_bench.records.manifest import EngineDescription
from specdec_bench.records.request import (
    AcceptanceCounters,
    AcceptanceSource,
    Chunk,
    GenerationRequest,
    Prompt,
    RequestMade,
    RequestRecord,
    RequestSampling,
)
from specdec_bench.runner.measure import Measurement

COUNTERS = AcceptanceCounters(num_verify_steps=1, num_accepted=2)


def experiment(
    *,
    spec: SpecConfig | None = None,
    num_warmup: int = 0,
    repeats: int = 1,
    concurrency: int = 1,
    max_seq_len: int | None = None,
    sampling: dict[str, Any] | None = None,
    **engine: Any,
) -> ExperimentConfig:
    return ExperimentConfig(
        engine=SyntheticEngine(**({"ttft_ms": 0.0, "step_time_ms": 0.0} | engine)),
        model=ModelConfig(name="m", path="p", max_seq_len=max_seq_len),
        dataset=DemoDataset(),
        spec=spec or NgramSpec(),
        load=ClosedLoad(num_warmup=num_warmup, repeats=repeats, concurrency=concurrency),
        sampling=SamplingConfig(**({"max_new_tokens": 8} | (sampling or {}))),
        seed=7,
    )


def prompt(name: str, num_turns: int = 2, **changes: Any) -> Prompt:
    values = {"prompt_id": name, "category": "c", "turns": tuple(f"{name}{i}" for i in range(num_turns))}
    return Prompt(**(values | changes))


Measure = Callable[..., list[RequestRecord]]


@pytest.fixture
def measure(tmp_path: Path) -> Measure:
    """Returns a function that runs a cell and returns its records in the order in which they were archived."""

    def run(
        config: ExperimentConfig,
        prompts: list[Prompt],
        engine: Engine | None = None,
        watch: Callable[[Measurement], None] = lambda _: None,
    ) -> list[RequestRecord]:
        path = tmp_path / "requests.jsonl"
        path.unlink(missing_ok=True)
        with RequestWriter(path) as writer:
            measurement = Measurement(config, prompts, engine or create(config), BytePrompter(256), writer)
            asyncio.run(measurement.run())
            watch(measurement)
        decoder = msgspec.json.Decoder(RequestRecord)
        return [codec.decode(line, decoder) for line in path.read_bytes().splitlines()]

    return run


class Remembering:
    """Answers every request with these chunks and keeps what it was asked, resets included."""

    def __init__(self, *chunks: Chunk, totals: AcceptanceCounters | None = None, pause_s: float = 0.0) -> None:
        self._chunks = chunks or (Chunk([65, 66, 67, 68, 69, 70, 71, 72], 0, 0, finish_reason="length"),)
        self._totals = totals
        self._pause_s = pause_s
        self.asked: list[GenerationRequest] = []
        self.events: list[str] = []
        self.in_flight = self.most = 0

    async def stream(self, request: GenerationRequest) -> AsyncIterator[Chunk]:
        self.asked.append(request)
        self.events.append(request.request_id)
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            for chunk in self._chunks:
                await asyncio.sleep(self._pause_s)
                yield chunk
        finally:
            self.in_flight -= 1

    async def start(self) -> None: ...

    async def reset(self) -> None:
        self.events.append("reset")

    def counters(self) -> AcceptanceCounters | None:
        return self._totals

    def read_back(self, sampling: RequestSampling) -> dict[str, Any]:
        return msgspec.structs.asdict(sampling)

    def describe(self) -> EngineDescription:
        return EngineDescription(arguments={}, resolved={}, max_seq_len=None, num_accelerators=0, reproducible=True)

    async def stop(self) -> None: ...


# ---------------------------------------------------------------- order, warm-up, repeats


class Refusing(BytePrompter):
    """Takes no conversation with a reply."""

    def encode(self, system: str | None, turns: Sequence[str], replies: Sequence[str]) -> tuple[int, ...]:
        if replies:
            raise ConfigError("the chat template refuses the conversation: only one turn")
        return super().encode(system, turns, replies)


def test_a_later_turn_that_is_refused_fails_its_conversation_alone(tmp_path: Path) -> None:
    prompts = [prompt("a", 1), prompt("b", 3), prompt("c", 1)]
    path = tmp_path / "requests.jsonl"
    with RequestWriter(path) as writer:
        config = experiment()
        measurement = Measurement(config, prompts, create(config), Refusing(256), writer)
        asyncio.run(measurement.run())
    decoder = msgspec.json.Decoder(RequestRecord)
    records = {record.request_id: record for record in (decoder.decode(x) for x in path.read_bytes().splitlines())}
    assert list(records) == ["a/0/0", "b/0/0", "b/1/0", "c/0/0"]
    refused = records.pop("b/1/0")
    assert refused.error is not None
    assert refused.error.kind == "encoding_error"
    assert refused.error.message == "prompt b, turn 2: the chat template refuses the conversation: only one turn"
    assert (refused.sent_ns, refused.prompt_token_ids, refused.steps) == (None, (), ())
    assert all(record.error is None for record in records.values())
    live = measurement.live
    assert (live.finished, live.failed, live.first_error) == (3, 1, refused.error.message)


def test_turns_follow_each_other_and_conversations_too(measure: Measure) -> None:
    records = measure(experiment(), [prompt("a"), prompt("b", 1), prompt("c", 3)])
    assert [record.request_id for record in records] == ["a/0/0", "a/1/0", "b/0/0", "c/0/0", "c/1/0", "c/2/0"]
    assert [record.turn for record in records] == [0, 1, 0, 0, 1, 2]
    assert {record.phase for record in records} == {"measure"}
    assert {record.error for record in records} == {None}
    assert all(a.steps[-1].received_ns <= (b.sent_ns or 0) for a, b in pairwise(records))


def test_warm_up_sends_first_turns_alone_and_is_marked(measure: Measure) -> None:
    """Three of two prompts: the first comes again."""
    records = measure(experiment(num_warmup=3), [prompt("a"), prompt("b")])
    warmup, measured = records[:3], records[3:]
    assert [record.request_id for record in warmup] == ["warmup/a/0/0", "warmup/b/0/0", "warmup/a/0/0"]
    assert {record.phase for record in warmup} == {"warmup"}
    assert {record.turn for record in warmup} == {0}
    assert [record.request_id for record in measured] == ["a/0/0", "a/1/0", "b/0/0", "b/1/0"]
    assert {record.phase for record in measured} == {"measure"}


def test_the_engine_forgets_the_warm_up_before_the_window(measure: Measure) -> None:
    """What it cached of a prompt must not make that prompt's measured request faster."""
    engine = Remembering()
    measure(experiment(num_warmup=1), [prompt("a", 1)], engine)
    assert engine.events == ["warmup/a/0/0", "reset", "a/0/0"]


def test_repeats_run_the_whole_dataset_again(measure: Measure) -> None:
    totals: list[int] = []
    records = measure(
        experiment(repeats=2), [prompt("a"), prompt("b", 1)], watch=lambda m: totals.append(m.num_requests)
    )
    assert [record.request_id for record in records] == ["a/0/0", "a/1/0", "b/0/0", "a/0/1", "a/1/1", "b/0/1"]
    assert [record.repeat for record in records] == [0, 0, 0, 1, 1, 1]
    assert totals == [6]


@pytest.mark.parametrize("concurrency", [1, 3, 50])
def test_the_concurrency_is_filled_and_never_exceeded(measure: Measure, concurrency: int) -> None:
    engine = Remembering(pause_s=0.002)
    records = measure(experiment(concurrency=concurrency, num_warmup=5), [prompt(f"p{i}") for i in range(10)], engine)
    assert len(records) == 25
    assert engine.most == min(concurrency, 10)


def test_the_warm_up_has_no_more_in_flight_than_the_window_can(measure: Measure) -> None:
    """Two prompts, twice each: an engine is sized for four requests at a time."""
    engine = Remembering(pause_s=0.002)
    measure(experiment(concurrency=65_536, num_warmup=40, repeats=2), [prompt("a", 1), prompt("b", 1)], engine)
    assert engine.most == 4


def test_conversations_in_flight_together_keep_their_own_turns(measure: Measure) -> None:
    """Each next prompt is its own conversation's, however the replies interleave; and so are the figures."""
    prompts = [prompt(f"p{i}", 3, max_new_tokens=i + 1) for i in range(8)]
    alone = measure(experiment(), prompts)
    together = measure(experiment(concurrency=5, step_time_ms=1.0), prompts)
    assert len(together) == len(alone) == 24

    def content(records: list[RequestRecord]) -> dict[str, Any]:
        return {
            r.request_id: (r.prompt_token_ids, r.output_token_ids, [(s.num_tokens, s.num_accepted) for s in r.steps])
            for r in records
        }

    assert content(together) == content(alone)


# ---------------------------------------------------------------- prompts


def test_the_next_prompt_holds_what_was_said_before(measure: Measure) -> None:
    prompter = BytePrompter(256)
    asked = prompt("a", 3, system="S")
    first, second, third = measure(experiment(), [asked])
    replies = [prompter.decode(record.output_token_ids) for record in (first, second)]
    assert first.prompt_token_ids == prompter.encode("S", asked.turns[:1], [])
    assert second.prompt_token_ids == prompter.encode("S", asked.turns[:2], replies[:1])
    assert third.prompt_token_ids == prompter.encode("S", asked.turns, replies)
    assert bytes(second.prompt_token_ids).endswith(replies[0].encode())
    assert replies[0] != replies[1]


def test_the_record_is_what_the_engine_was_asked_and_what_it_sent(measure: Measure) -> None:
    engine = Remembering(
        Chunk([65], 0, 0, received_ns=10**18),
        Chunk([66, 67], 3, 1, received_ns=10**18 + 5, finish_reason="stop", counters=COUNTERS),
    )
    (record,) = measure(experiment(), [prompt("a", 1, category="coding")], engine)
    (asked,) = engine.asked
    assert (record.request_id, record.prompt_id, record.category) == (asked.request_id, "a", "coding")
    assert (record.prompt_token_ids, record.output_token_ids) == (asked.prompt_token_ids, (65, 66, 67))
    assert [(s.received_ns - 10**18, s.num_tokens, s.num_proposed, s.num_accepted) for s in record.steps] == [
        (0, 1, 0, 0),
        (5, 2, 3, 1),
    ]
    assert (record.counters, record.finish_reason, record.seed) == (COUNTERS, "stop", asked.sampling.seed)
    assert record.scheduled_ns == record.sent_ns, "a closed loop has no queue"


def test_what_the_engine_made_of_a_request_is_recorded(measure: Measure) -> None:
    reply = [65] * 8
    engine = Remembering(Chunk(reply, 0, 0, finish_reason="length", made=RequestMade(num_preemptions=2)))
    assert measure(experiment(), [prompt("a", 1)], engine)[0].num_preemptions == 2
    assert measure(experiment(), [prompt("a", 1)], Remembering())[0].num_preemptions is None


def test_a_reply_that_was_cut_fails_and_ends_its_conversation(measure: Measure) -> None:
    """7 of 8 tokens: as a finished one it would have been the faster for it, and part of the next prompt."""
    watched: list[Measurement] = []
    engine = Remembering(Chunk([65] * 7, 0, 0, finish_reason="length"))
    (record,) = measure(experiment(), [prompt("a", 2)], engine, watch=watched.append)
    assert record.error is not None
    assert "after 7 of 8 tokens" in record.error.message
    assert (watched[0].live.finished, watched[0].live.failed) == (0, 1)


# ---------------------------------------------------------------- sampling


def test_every_request_has_a_seed_of_its_own(measure: Measure) -> None:
    records = measure(experiment(repeats=2), [prompt("a"), prompt("b")])
    assert [r.seed for r in records] == [request_seed(7, r.prompt_id, r.turn, r.repeat) for r in records]
    assert len({record.seed for record in records}) == 8


def test_seeds_do_not_depend_on_method_or_concurrency(measure: Measure) -> None:
    """A baseline must draw what the speculative run drew."""
    prompts = [prompt("a"), prompt("b")]
    seeds = [
        {record.request_id: record.seed for record in measure(config, prompts)}
        for config in (experiment(), experiment(spec=NoSpec()), experiment(concurrency=4))
    ]
    assert seeds[0] == seeds[1] == seeds[2]


@pytest.mark.parametrize(("own", "expected"), [(None, 8), (3, 3), (8, 8), (20, 8)])
def test_the_smaller_limit_holds(measure: Measure, own: int | None, expected: int) -> None:
    (record,) = measure(experiment(), [prompt("a", 1, max_new_tokens=own)])
    assert len(record.output_token_ids) == expected


def test_the_sampling_reaches_the_engine(measure: Measure) -> None:
    """Every option, also beside others."""
    engine = Remembering()
    options = {"max_new_tokens": 9, "min_new_tokens": 2, "temperature": 0.5, "top_p": 0.9, "top_k": 4}
    measure(experiment(sampling=options), [prompt("a", 1)], engine)
    sampling = engine.asked[0].sampling
    assert {name: getattr(sampling, name) for name in options} == options


@pytest.mark.parametrize(
    ("options", "stops"),
    [
        ({}, (0,)),
        ({"stop_token_ids": [9, 5, 0]}, (0, 5, 9)),
        ({"ignore_eos": True}, ()),
        ({"ignore_eos": True, "stop_token_ids": [9]}, (9,)),
    ],
)
def test_every_stop_token_reaches_the_engine(measure: Measure, options: dict[str, Any], stops: tuple[int, ...]) -> None:
    """0 is the model's own end of sequence, which `ignore_eos` alone takes away."""
    engine = Remembering()
    measure(experiment(sampling=options), [prompt("a", 1)], engine)
    assert engine.asked[0].sampling.stop_token_ids == stops


# ---------------------------------------------------------------- what goes wrong


def test_a_prompt_that_does_not_fit_is_recorded_and_the_run_goes_on(measure: Measure) -> None:
    """Room for 12 tokens, 8 of them new: "long prompt" has 11 already, "b0" two."""
    watched: list[Measurement] = []
    prompts = [prompt("a", 1, turns=("long prompt",)), prompt("b", 1)]
    records = measure(experiment(max_seq_len=12), prompts, watch=watched.append)
    assert [record.request_id for record in records] == ["a/0/0", "b/0/0"]
    skipped = records[0]
    assert skipped.error is not None
    assert skipped.error.kind == "context_overflow"
    assert skipped.error.message == "prompt of 11 and 8 new tokens exceed max_seq_len=12"
    assert (skipped.sent_ns, skipped.steps, skipped.output_token_ids) == (None, (), ())
    assert (skipped.counters, skipped.acceptance_source, skipped.finish_reason) == (None, None, None)
    assert records[1].error is None
    live = watched[0].live
    assert (live.finished, live.failed, live.skipped) == (1, 0, 1)
    assert watched[0].dropped == {"a": 19}, "11 + 8, known before anything is sent"


def test_what_does_not_fit_warms_nothing_up(measure: Measure) -> None:
    prompts = [prompt("a", 1, turns=("long prompt",)), prompt("b", 1)]
    records = measure(experiment(max_seq_len=12, num_warmup=2), prompts)
    assert [r.request_id for r in records if r.phase == "warmup"] == ["warmup/b/0/0", "warmup/b/0/0"]
    records = measure(experiment(max_seq_len=9, num_warmup=2), prompts)
    assert [(r.request_id, r.error and r.error.kind) for r in records] == [
        ("a/0/0", "context_overflow"),
        ("b/0/0", "context_overflow"),
    ]


def test_a_conversation_that_outgrows_the_context_ends_there(measure: Measure) -> None:
    """Turn 0 needs 2 + 8; turn 1 holds a0, a1, 8 tokens of reply and 2 newlines: 14 + 8."""
    records = measure(experiment(max_seq_len=21), [prompt("a", 3), prompt("b", 1)])
    assert [(r.request_id, r.error and r.error.kind) for r in records] == [
        ("a/0/0", None),
        ("a/1/0", "context_overflow"),
        ("b/0/0", None),
    ]
    records = measure(experiment(max_seq_len=22), [prompt("a"), prompt("b", 1)])
    assert {record.error for record in records} == {None}, "to the token"


def test_the_own_limit_of_a_prompt_makes_room(measure: Measure) -> None:
    long = prompt("a", 1, turns=("long prompt",), max_new_tokens=1)
    assert [record.error for record in measure(experiment(max_seq_len=12), [long])] == [None]


def test_a_failed_turn_ends_its_conversation_and_no_other(measure: Measure) -> None:
    """Every second request fails: a1, then b1 (after b0), and c has one turn only."""
    watched: list[Measurement] = []
    records = measure(experiment(fail_every=2), [prompt("a", 3), prompt("b", 3), prompt("c", 1)], watch=watched.append)
    assert [(r.request_id, r.error is not None) for r in records] == [
        ("a/0/0", False),
        ("a/1/0", True),
        ("b/0/0", False),
        ("b/1/0", True),
        ("c/0/0", False),
    ]
    assert len(records[1].steps) == 2, "what had come is kept"
    live = watched[0].live
    assert (live.finished, live.failed) == (3, 2)
    assert live.first_error == "synthetic failure: engine.fail_every=2"


def test_a_failed_warm_up_does_not_end_the_run(measure: Measure) -> None:
    watched: list[Measurement] = []
    records = measure(experiment(num_warmup=1, fail_every=1), [prompt("a", 1)], watch=watched.append)
    assert [(record.phase, record.error is not None) for record in records] == [("warmup", True), ("measure", True)]
    assert watched[0].live.failed == 1, "the warm-up's is not among the run's"


def test_a_stopped_run_records_what_was_in_flight(tmp_path: Path) -> None:
    config = experiment(concurrency=2, step_time_ms=5.0, sampling={"max_new_tokens": 1000}, spec=NoSpec())
    path = tmp_path / "requests.jsonl"

    async def stop_soon(writer: RequestWriter) -> None:
        engine = create(config)
        prompts = [prompt(name) for name in "abc"]
        measurement = Measurement(config, prompts, engine, BytePrompter(256), writer)
        running = asyncio.create_task(measurement.run())
        while measurement.live.output_tokens < 20:
            await asyncio.sleep(0.001)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    with RequestWriter(path) as writer:
        asyncio.run(stop_soon(writer))
    decoder = msgspec.json.Decoder(RequestRecord)
    records = [codec.decode(line, decoder) for line in path.read_bytes().splitlines()]
    assert sorted(record.request_id for record in records) == ["a/0/0", "b/0/0"]
    for record in records:
        assert record.error is not None
        assert record.error.kind == "interrupted"
        assert 1 < len(record.steps) == len(record.output_token_ids) < 1000
    assert gc.isenabled()


def test_the_collector_rests_during_the_window_alone(measure: Measure) -> None:
    states: list[bool] = []

    class Watching(Remembering):
        async def stream(self, request: GenerationRequest) -> AsyncIterator[Chunk]:
            states.append(gc.isenabled())
            async for chunk in super().stream(request):
                yield chunk

    measure(experiment(num_warmup=1), [prompt("a", 1)], Watching())
    assert states == [True, False]
    assert gc.isenabled()


# ---------------------------------------------------------------- counts


@pytest.mark.parametrize(
    ("chunks", "totals", "spec", "source"),
    [
        ([Chunk([1], 0, 0), Chunk([2, 3], 3, 1, finish_reason="length")], None, NgramSpec(), "engine_request"),
        ([Chunk([1]), Chunk([2, 3], finish_reason="length", counters=COUNTERS)], None, NgramSpec(), "engine_request"),
        ([Chunk([1]), Chunk([2, 3], finish_reason="length")], COUNTERS, NgramSpec(), "engine_total"),
        ([Chunk([1]), Chunk([2, 3], finish_reason="length")], None, NgramSpec(), "stream"),
        ([Chunk([1]), Chunk([2, 3], finish_reason="length")], COUNTERS, NoSpec(), None),
    ],
    ids=["steps", "counters", "totals", "neither", "plain"],
)
def test_the_first_source_at_hand_is_named(
    measure: Measure,
    chunks: list[Chunk],
    totals: AcceptanceCounters | None,
    spec: SpecConfig,
    source: AcceptanceSource | None,
) -> None:
    (record,) = measure(experiment(spec=spec), [prompt("a", 1)], Remembering(*chunks, totals=totals))
    assert record.acceptance_source == source


def test_live_counts_are_the_measured_windows(measure: Measure) -> None:
    """Two measured requests of 8 tokens, in steps of 4, 3 (room for 2 drafts) after the prefill's 1."""
    watched: list[Measurement] = []
    measure(experiment(num_warmup=5, acceptance_rates=[1.0]), [prompt("a", 1), prompt("b", 1)], watch=watched.append)
    live = watched[0].live
    assert (live.finished, live.failed, live.output_tokens) == (2, 0, 16)
    assert (live.decode_steps, live.decoded_tokens) == (4, 14)
    assert watched[0].phase == "measure"


def test_a_request_without_a_token_takes_nothing_from_the_live_counts(measure: Measure) -> None:
    """An end of sequence that the engine does not send: no prefill token to leave out either."""
    watched: list[Measurement] = []
    measure(experiment(), [prompt("a", 1)], Remembering(Chunk([], finish_reason="stop")), watch=watched.append)
    live = watched[0].live
    assert (live.finished, live.decode_steps, live.decoded_tokens) == (1, 0, 0)
