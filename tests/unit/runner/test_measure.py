"""A cell's requests, in this process, on the synthetic engine or on one that remembers what it was asked."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from specdec_bench.archive import RequestWriter
from specdec_bench.checkpoints.prompter import BytePrompter
from specdec_bench.config.identity import request_seed
from specdec_bench.config.schema.spec import NoSpec
from specdec_bench.engines.base import create
from specdec_bench.errors import ConfigError
from specdec_bench.records.request import Chunk, RequestMade, RequestRecord
from specdec_bench.runner.measure import Measurement
from tests.helpers.measured_cells import COUNTERS, Measure, Remembering, experiment, prompt


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
    """Three of two prompts: the first comes again, under an id of its own."""
    records = measure(experiment(num_warmup=3), [prompt("a"), prompt("b")])
    warmup, measured = records[:3], records[3:]
    assert [record.request_id for record in warmup] == ["warmup/a/0/0", "warmup/b/0/0", "warmup/a/0/1"]
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
