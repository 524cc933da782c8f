"""What goes wrong while a cell is measured, and what is counted."""

import asyncio
import gc
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from specdec_bench.archive import RequestWriter, codec
from specdec_bench.checkpoints.prompter import BytePrompter
from specdec_bench.config.schema.spec import NgramSpec, NoSpec, SpecConfig
from specdec_bench.engines.base import create
from specdec_bench.records.request import AcceptanceCounters, AcceptanceSource, Chunk, GenerationRequest, RequestRecord
from specdec_bench.runner.measure import Measurement
from tests.helpers.measured_cells import COUNTERS, Measure, Remembering, experiment, prompt


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
    assert [r.request_id for r in records if r.phase == "warmup"] == ["warmup/b/0/0", "warmup/b/0/1"]
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
