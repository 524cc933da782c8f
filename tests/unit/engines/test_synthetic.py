"""The engine of known truth does what it was told: everything else is checked against it."""

import asyncio
import math
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from specdec_bench.config.schema.engine import SyntheticEngine
from specdec_bench.config.schema.model import ModelConfig
from specdec_bench.config.schema.spec import NgramSpec, NoSpec
from specdec_bench.engines.base import Engine, create
from specdec_bench.records.request import GenerationRequest, RequestSampling
from specdec_bench.runner.messages import Counts
from specdec_bench.runner.receive import Received, receive
from tests.helpers import build


def engine(k: int | None = 3, max_seq_len: int | None = None, **settings: Any) -> Engine:
    """Drafts `k` tokens a step (None: plain decoding); takes no time unless told to."""
    return create(
        build.experiment(
            engine=SyntheticEngine(**({"ttft_ms": 0.0, "step_time_ms": 0.0} | settings)),
            model=ModelConfig(name="m", path="p", max_seq_len=max_seq_len),
            spec=NoSpec() if k is None else NgramSpec(draft_length=k),
        )
    )


def request(number: int = 0, max_new_tokens: int = 64, **sampling: Any) -> GenerationRequest:
    return GenerationRequest(
        request_id=f"r{number}",
        prompt_token_ids=(1, number),
        sampling=RequestSampling(max_new_tokens=max_new_tokens, seed=sampling.pop("seed", number), **sampling),
    )


def ask(asked: Engine, requests: Sequence[GenerationRequest], concurrency: int = 1) -> list[Received]:
    """Sends them in order, `concurrency` at a time."""

    async def run() -> list[Received]:
        slots = asyncio.Semaphore(concurrency)

        async def one(item: GenerationRequest) -> Received:
            async with slots:
                return (await receive(asked, item, Counts()))[0]

        return await asyncio.gather(*map(one, requests))

    return asyncio.run(run())


def counts(received: Received) -> list[tuple[int, int | None, int | None]]:
    """(tokens, proposed, accepted) of every chunk, the prefill's first."""
    return list(zip(received.sizes, received.proposed, received.accepted, strict=True))


# ---------------------------------------------------------------- acceptance


def z_score(num_accepted: int, num_tried: int, rate: float) -> float:
    return (num_accepted - num_tried * rate) / math.sqrt(num_tried * rate * (1 - rate))


@pytest.mark.parametrize(
    ("k", "rates", "asked"),
    [
        (3, [0.8, 0.6, 0.4], [0.8, 0.6, 0.4]),
        (2, [0.3, 0.9, 0.5], [0.3, 0.9]),
        (5, [0.7, 0.6], [0.7, 0.6, 0.6, 0.6, 0.6]),
    ],
    ids=["as many rates as drafts", "more", "fewer: the last holds on"],
)
@pytest.mark.parametrize("stop_probability", [0.0, 0.02])
def test_acceptance_is_what_was_asked_for(
    k: int, rates: list[float], asked: list[float], stop_probability: float
) -> None:
    """Position i is tried where i were proposed and i-1 accepted; whether it is tried is settled before its coin."""
    asked_engine = engine(k, acceptance_rates=rates, stop_probability=stop_probability)
    found = ask(asked_engine, [request(i, 200, stop_token_ids=(0,)) for i in range(100)])
    steps = [(p or 0, a or 0) for received in found for _, p, a in counts(received)[1:]]
    assert len(steps) > 1000
    for i, rate in enumerate(asked, start=1):
        tried = [a >= i for p, a in steps if p >= i and a >= i - 1]
        assert len(tried) > 100
        assert abs(z_score(sum(tried), len(tried), rate)) < 4, f"position {i}"


def test_a_wrong_rate_would_be_found() -> None:
    """The same measure, against rates that are five points off."""
    found = ask(engine(1, acceptance_rates=[0.8]), [request(i, 200) for i in range(100)])
    tried = [(a or 0) >= 1 for received in found for _, p, a in counts(received)[1:] if p]
    assert abs(z_score(sum(tried), len(tried), 0.8)) < 4
    assert abs(z_score(sum(tried), len(tried), 0.75)) > 4


def test_requests_draw_their_own_coins() -> None:
    """Equal coins in every request would make 100 requests no better than one."""
    found = ask(engine(3), [request(i) for i in range(20)])
    assert len({tuple(received.sizes) for received in found}) == 20
    again = ask(engine(3), [request(0, seed=1), request(0, seed=2)])
    assert again[0].sizes != again[1].sizes, "repeats of one prompt, told apart by their seed alone"


# ---------------------------------------------------------------- steps and lengths


def test_certain_acceptance_by_hand() -> None:
    """10 tokens, 3 drafts a step: 1, 4, 4 and a last one that has room for its own token alone."""
    (found,) = ask(engine(3, acceptance_rates=[1.0]), [request(max_new_tokens=10)])
    assert counts(found) == [(1, 0, 0), (4, 3, 3), (4, 3, 3), (1, 0, 0)]
    assert found.finish_reason == "length"


def test_no_more_is_proposed_than_the_limit_has_room_for() -> None:
    (found,) = ask(engine(3, acceptance_rates=[1.0]), [request(max_new_tokens=8)])
    assert counts(found) == [(1, 0, 0), (4, 3, 3), (3, 2, 2)]


def test_certain_refusal_by_hand() -> None:
    (found,) = ask(engine(3, acceptance_rates=[0.0]), [request(max_new_tokens=5)])
    assert counts(found) == [(1, 0, 0), (1, 3, 0), (1, 2, 0), (1, 1, 0), (1, 0, 0)]


def test_plain_decoding_proposes_nothing() -> None:
    (found,) = ask(engine(None), [request(max_new_tokens=5)])
    assert counts(found) == [(1, 0, 0)] * 5


@pytest.mark.parametrize("k", [None, 1, 4])
@pytest.mark.parametrize("max_new_tokens", [1, 2, 3, 7, 64])
def test_every_request_has_its_length_to_the_token(k: int | None, max_new_tokens: int) -> None:
    for found in ask(engine(k), [request(i, max_new_tokens) for i in range(20)]):
        assert len(found.token_ids) == max_new_tokens
        assert found.finish_reason == "length"
        assert found.error is None
        assert all(size == (accepted or 0) + 1 for size, _, accepted in counts(found))
        assert all((accepted or 0) <= (proposed or 0) <= (k or 0) for _, proposed, accepted in counts(found))


def test_tokens_are_of_the_vocabulary() -> None:
    (found,) = ask(engine(vocab_size=5), [request(max_new_tokens=200)])
    assert set(found.token_ids) == {0, 1, 2, 3, 4}


# ---------------------------------------------------------------- stops


def test_a_stop_token_ends_the_request_and_comes_nowhere_else() -> None:
    found = ask(
        engine(3, stop_probability=0.1, vocab_size=8),
        [request(i, max_new_tokens=200, stop_token_ids=(0, 5)) for i in range(200)],
    )
    for received in found:
        assert received.finish_reason == "stop"
        assert received.token_ids[-1] == 0
        assert not {0, 5} & set(received.token_ids[:-1])
    num_tokens = sum(len(received.token_ids) for received in found)
    assert abs(z_score(200, num_tokens, 0.1)) < 4, "every token is a stop with the asked probability"


def test_an_accepted_stop_token_has_no_bonus_and_nothing_proposed_behind_it() -> None:
    """All drafts are accepted, so a step that ends short of its 4 tokens ends with a stop among its drafts."""
    found = ask(
        engine(3, acceptance_rates=[1.0], stop_probability=0.2),
        [request(i, max_new_tokens=100, stop_token_ids=(0,)) for i in range(100)],
    )
    last = {counts(received)[-1] for received in found}
    assert last == {(1, 0, 0), (1, 1, 1), (2, 2, 2), (3, 3, 3), (4, 3, 3)}
    assert {count for received in found for count in counts(received)[1:-1]} == {(4, 3, 3)}


def test_without_stop_tokens_the_limit_alone_ends_a_request() -> None:
    (found,) = ask(engine(stop_probability=1.0), [request(max_new_tokens=9)])
    assert (len(found.token_ids), found.finish_reason) == (9, "length")


@pytest.mark.parametrize("min_new_tokens", [0, 1, 5, 8])
def test_no_stop_token_comes_before_the_minimum(min_new_tokens: int) -> None:
    """A stop that is certain comes right after the tokens for which it was forbidden."""
    (found,) = ask(
        engine(3, stop_probability=1.0),
        [request(max_new_tokens=20, min_new_tokens=min_new_tokens, stop_token_ids=(0,))],
    )
    assert (len(found.token_ids), found.finish_reason) == (min_new_tokens + 1, "stop")


# ---------------------------------------------------------------- the same again


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_tokens_do_not_depend_on_the_method(temperature: float) -> None:
    """The engine is lossless: what is drafted changes the steps alone."""
    requests = [request(i, stop_token_ids=(0,), temperature=temperature) for i in range(20)]
    found = [ask(engine(k, stop_probability=0.02), requests) for k in (None, 1, 5)]
    tokens = [[received.token_ids for received in run] for run in found]
    assert tokens[0] == tokens[1] == tokens[2]
    assert len({tuple(token_ids) for token_ids in tokens[0]}) == 20


def test_greedy_tokens_depend_on_the_prompt_and_sampled_ones_on_the_seed() -> None:
    greedy = ask(engine(), [request(0, seed=1), request(0, seed=2)])
    assert greedy[0].token_ids == greedy[1].token_ids
    sampled = ask(engine(), [request(0, seed=1, temperature=1.0), request(0, seed=2, temperature=1.0)])
    assert sampled[0].token_ids != sampled[1].token_ids


@pytest.mark.parametrize("concurrency", [3, 20])
def test_a_request_is_the_same_whatever_else_is_in_flight(concurrency: int) -> None:
    requests = [request(i, stop_token_ids=(0,)) for i in range(20)]
    alone = ask(engine(stop_probability=0.02), requests)
    together = ask(engine(stop_probability=0.02), list(reversed(requests)), concurrency)
    assert [(r.token_ids, counts(r)) for r in reversed(together)] == [(r.token_ids, counts(r)) for r in alone]


def test_the_draft_length_follows_the_requests_in_flight() -> None:
    """Certain acceptance, and 12 tokens: K=2 alone, K=1 in twos, none from three on, the last row's beyond its end."""

    def proposed(concurrency: int) -> set[tuple[int | None, ...]]:
        spec = NgramSpec(draft_length=2, draft_length_by_batch_size=[[1, 1, 2], [2, 2, 1], [3, 4, 0]])
        settings = SyntheticEngine(ttft_ms=0.0, step_time_ms=5.0, acceptance_rates=[1.0])
        made = create(build.experiment(engine=settings, spec=spec))
        found = ask(made, [request(number, max_new_tokens=12) for number in range(concurrency)], concurrency)
        return {tuple(received.proposed) for received in found}

    assert proposed(1) == {(0, 2, 2, 2, 1)}  # 1 + 3 + 3 + 3 + 2
    assert proposed(3) == proposed(9) == {(0,) * 12}
    assert not create(
        build.experiment(spec=NgramSpec(draft_length=2, draft_length_by_batch_size=[[1, 1, 2], [2, 2, 1]]))
    ).describe().reproducible  # fmt: skip


def test_the_draw_of_a_seed_is_frozen() -> None:
    """A replay in another process or release must repeat an archived run."""
    (found,) = ask(engine(3), [request(0, max_new_tokens=8)])
    assert (found.token_ids, found.sizes) == ([133, 255, 172, 102, 114, 87, 134, 94], [1, 3, 3, 1])


# ---------------------------------------------------------------- failures, times, description


def test_every_third_request_fails_after_its_first_decode_step() -> None:
    found = ask(engine(2, acceptance_rates=[1.0], fail_every=3), [request(i, 10) for i in range(7)])
    assert [received.error is not None for received in found] == [False, False, True] * 2 + [False]
    assert found[2].error is not None
    assert (found[2].error.kind, found[2].error.message) == ("engine_error", "synthetic failure: engine.fail_every=3")
    assert counts(found[2]) == [(1, 0, 0), (3, 2, 2)]
    assert found[2].finish_reason is None


def test_a_reset_does_not_start_the_failures_over() -> None:
    """It comes between warm-up and measurement, and the warm-up's requests are sent too."""
    asked = engine(fail_every=2)
    assert [received.error is not None for received in ask(asked, [request()])] == [False]
    asyncio.run(asked.reset())
    assert [received.error is not None for received in ask(asked, [request()])] == [True]


def test_times_are_at_least_what_was_asked_for() -> None:
    (found,) = ask(engine(1, acceptance_rates=[1.0], ttft_ms=20.0, step_time_ms=5.0), [request(max_new_tokens=5)])
    assert found.times[0] - found.sent_ns >= 19_000_000
    assert all(after - before >= 4_000_000 for before, after in pairwise(found.times))
    assert len(found.times) == 3


def test_requests_in_flight_do_not_slow_each_other_down() -> None:
    """Twenty requests of 0.2 s each, all at once: one after another they would take 4 s."""
    began = time.perf_counter()
    ask(engine(ttft_ms=200.0), [request(i, max_new_tokens=1) for i in range(20)], concurrency=20)
    assert 0.19 < time.perf_counter() - began < 20 * 0.2


def test_the_engine_says_that_it_is_none() -> None:
    described = engine(5, max_seq_len=99, acceptance_rates=[0.7, 0.6]).describe()
    assert described.synthetic is not None
    assert described.synthetic.startswith("synthetic engine")
    assert described.arguments == {"acceptance_rates": [0.7, 0.6, 0.6, 0.6, 0.6]}
    assert (described.max_seq_len, described.num_accelerators, described.reproducible) == (99, 0, True)
    assert engine().counters() is None


def test_a_hanging_engine_gives_one_decode_step_and_no_end() -> None:
    hanging = engine(1, hang_after=1)
    assert ask(hanging, [request(0)])[0].finish_reason == "length"

    async def wait() -> Received:
        live = Counts()
        receiving = asyncio.create_task(receive(hanging, request(1), live))
        while live.output_tokens < 2:
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        assert live.in_flight == 1
        receiving.cancel()
        received, _ = await receiving
        assert live.in_flight == 0
        return received

    received = asyncio.run(wait())
    assert (len(received.sizes), received.finish_reason) == (2, None)
