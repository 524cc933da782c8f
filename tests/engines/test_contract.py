"""What every engine promises the runner, held against the real engines.

SGLang's cases run in its own environment: `.venv-sglang/bin/python -m pytest -m sglang`, as in the Makefile.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import aclosing

import msgspec
import pytest

from specdec_bench.config.schema.sampling import SamplingConfig
from specdec_bench.config.support import ENGINES, check_support
from specdec_bench.engines.readback import check_sampling
from specdec_bench.errors import ConfigError
from specdec_bench.records.manifest import Difference
from specdec_bench.records.request import GenerationRequest, RequestMade, RequestSampling
from specdec_bench.runner.messages import Counts
from specdec_bench.runner.receive import Received, receive
from tests.helpers.contract_engines import CASES, K, LiveEngine, steps

pytestmark = [
    pytest.mark.timeout(600),
    # vLLM and SGLang leave their sockets' contexts to the garbage collector.
    pytest.mark.filterwarnings("ignore:Exception ignored in. <function Context.__del__"),
]
LONG = 400
"""Tokens of a request that is not to reach its end."""


@pytest.fixture(scope="module", params=CASES)
def live(request: pytest.FixtureRequest) -> Iterator[LiveEngine]:
    """One engine for all tests of a case."""
    engine = LiveEngine(request.param)
    yield engine
    engine.stop()


def test_tokens_come_in_order_and_within_the_request(live: LiveEngine) -> None:
    before = time.perf_counter_ns()
    received = live.ask(live.prompts[0])
    after = time.perf_counter_ns()
    assert len(received.token_ids) == sum(received.sizes) == 24
    assert min(received.sizes) >= 1
    assert received.times == sorted(received.times)
    assert before <= received.sent_ns <= received.times[0]
    assert received.times[-1] <= after


def test_the_prefill_emits_one_token_and_verifies_none(live: LiveEngine) -> None:
    for prompt in live.prompts[:4]:
        size, proposed, accepted = steps(live.ask(prompt))[0]
        assert (size, accepted) == (1, 0)
        assert not proposed


def test_a_reply_ends_at_its_limit(live: LiveEngine) -> None:
    for limit in (2, 3, K + 1, K + 2, 17):
        received = live.ask(live.prompts[1], max_new_tokens=limit)
        assert (len(received.token_ids), received.finish_reason) == (limit, "length")


def test_the_engine_runs_with_what_was_asked_for(live: LiveEngine) -> None:
    assert live.engine.describe().differences == ()


def test_a_request_is_taken_as_it_is(live: LiveEngine) -> None:
    """But for its seed, which SGLang replaces by its own; and vLLM draws at no temperature below 0.01."""
    asked = RequestSampling(max_new_tokens=9, temperature=0.7, top_p=0.9, top_k=20, seed=5, stop_token_ids=(4, 3))
    name = live.case.engine.name
    seed = (Difference(name="seed", asked=5, got="0 for all requests"),) if name == "sglang" else ()
    assert check_sampling(name, asked, live.engine.read_back(asked)) == seed
    greedy = RequestSampling(max_new_tokens=9, top_k=1, seed=5)
    assert check_sampling(name, greedy, live.engine.read_back(greedy)) == ()
    cold = msgspec.structs.replace(asked, temperature=0.001)
    if name == "vllm":
        with pytest.raises(ConfigError, match=r"sampling\.temperature=0\.001: engine=vllm makes it 0\.01"):
            check_sampling(name, cold, live.engine.read_back(cold))
    else:
        assert check_sampling(name, cold, live.engine.read_back(cold)) == seed


def test_what_the_engine_tells_of_a_request_is_kept(live: LiveEngine) -> None:
    made = live.ask(live.prompts[0]).made
    tells = live.case.engine.name in ("vllm", "sglang")
    assert made == (RequestMade(len(live.prompts[0]), 0) if tells else RequestMade())


def test_one_token_is_the_prefills(live: LiveEngine) -> None:
    received = live.ask(live.prompts[1], max_new_tokens=1)
    assert [size for size, *_ in steps(received)] == [1]
    assert received.finish_reason == "length"
    if received.counters is not None:
        assert (received.counters.num_decode_steps or 0) == 0
        assert (received.counters.num_verify_steps, received.counters.num_accepted) in ((0, 0), (None, None))
        assert live.case.tells_drafts == (received.counters.num_accepted is not None)


def test_the_first_of_several_stop_tokens_ends_the_reply_and_belongs_to_it(live: LiveEngine) -> None:
    prompt = live.prompts[2]
    whole = live.ask(prompt, max_new_tokens=40).token_ids
    # The two tokens that appear last for the first time: every method has decoded a few steps by then.
    early, late = sorted({token: whole.index(token) for token in whole}.items(), key=lambda item: item[1])[-2:]
    stops = (late[0], early[0], *live.end_of_sequence)
    received = live.ask(prompt, max_new_tokens=LONG, stop_token_ids=stops)
    assert received.finish_reason == "stop"
    assert received.token_ids[-1] in stops
    assert not set(received.token_ids[:-1]) & set(stops)
    if live.case.has_model:
        assert received.token_ids == whole[: early[1] + 1]


def test_a_reply_may_be_its_end_of_sequence_alone(live: LiveEngine) -> None:
    if live.case.has_model:
        prompt = live.prompts[3]
        stops = (*live.end_of_sequence, live.ask(prompt).token_ids[0])
    else:  # one of 10 draws a stop token first
        stops = (5,)
        prompts = ((*live.prompts[3], number) for number in range(1000))
        prompt = next(prompt for prompt in prompts if live.ask(prompt, stop_token_ids=stops).token_ids == [5])
    received = live.ask(prompt, stop_token_ids=stops)
    assert (len(received.token_ids), received.sizes, received.finish_reason) == (1, [1], "stop")


def test_a_stop_token_before_the_minimum_does_not_end_the_reply(live: LiveEngine) -> None:
    if ("min_new_tokens",) in ENGINES[live.case.engine.name].sampling:  # then no run gets as far as asking for it
        config = live.case.config()
        config.sampling = SamplingConfig(min_new_tokens=5)
        with pytest.raises(ConfigError, match=r"sampling\.min_new_tokens=5"):
            check_support(config)
        return
    prompt = live.prompts[3]
    stops = (live.ask(prompt).token_ids[0],)
    received = live.ask(prompt, min_new_tokens=5, max_new_tokens=24, stop_token_ids=stops)
    assert len(received.token_ids) >= 5
    assert not set(received.token_ids[:4]) & set(stops)


def test_steps_tokens_and_counts_add_up(live: LiveEngine) -> None:
    """Every decode step emits the drafts that it accepted and one token more, but for what the last one was cut by."""
    live.run(live.engine.reset())
    all_received = [live.ask(prompt, max_new_tokens=limit) for prompt in live.prompts[:4] for limit in (9, 24)]
    for received in all_received:
        _, *decode_steps = steps(received)
        counters = received.counters
        if not live.case.tells_drafts:
            assert counters is not None
            assert counters.num_decode_steps == len(decode_steps)
            assert all(1 <= size <= K + 1 for size, *_ in decode_steps)
            assert all(step[1:] == (None, None) for step in decode_steps)
            continue
        for size, proposed, accepted in decode_steps[:-1]:
            assert accepted is not None
            assert size == accepted + 1
            assert proposed is None or accepted <= proposed <= K
        size, _, accepted = decode_steps[-1]
        assert accepted is not None
        assert 1 <= size <= accepted + 1 <= K + 1
        if counters is not None:
            assert counters.num_accepted == sum(accepted or 0 for *_, accepted in decode_steps)
            assert counters.num_decode_steps == len(decode_steps)
            assert counters.num_verify_steps <= len(decode_steps)
            histogram = counters.histogram or ()
            assert sum(histogram) == counters.num_verify_steps
            assert sum(accepted * number for accepted, number in enumerate(histogram)) == counters.num_accepted
    totals = live.engine.counters()
    if totals is not None:
        counts = [received.counters for received in all_received]
        assert totals.num_accepted == sum(one.num_accepted for one in counts if one is not None)
        assert totals.num_verify_steps == sum(one.num_verify_steps for one in counts if one is not None)


def test_a_method_accepts_drafts_and_plain_decoding_none(live: LiveEngine) -> None:
    all_steps = [step for prompt in live.prompts[:4] for step in steps(live.ask(prompt))]
    assert (max(size for size, *_ in all_steps) > 1) == (live.case.method != "none")
    if live.case.tells_drafts:
        assert (sum(accepted or 0 for *_, accepted in all_steps) > 0) == (live.case.method != "none")


def test_a_reset_leaves_no_trace(live: LiveEngine) -> None:
    def both() -> list[tuple[list[int], list[tuple[int, int | None, int | None]], object]]:
        live.run(live.engine.reset())
        answers = [live.ask(prompt, max_new_tokens=40) for prompt in live.prompts[4:6]]
        return [(one.token_ids, steps(one), one.counters) for one in answers]

    first = both()
    first_totals = live.engine.counters()
    for prompt in live.prompts:
        live.ask(prompt)
    assert both() == first
    assert live.engine.counters() == first_totals


def test_requests_in_flight_together_are_answered_as_alone(live: LiveEngine) -> None:
    prompts = live.prompts[: live.max_concurrency]
    alone = [live.ask(prompt).token_ids for prompt in prompts]

    async def together() -> list[Received]:
        return await asyncio.gather(*(live.receive(live.request(prompt)) for prompt in prompts))

    received = live.run(together())
    assert [one.error for one in received] == [None] * len(prompts)
    assert [one.token_ids for one in received] == alone
    assert all(sum(one.sizes) == len(one.token_ids) == 24 for one in received)


def test_a_cancelled_request_keeps_what_came_and_leaves_the_engine_free(live: LiveEngine) -> None:
    prompt = live.prompts[6]
    expected = live.ask(prompt).token_ids
    request = live.request(prompt, max_new_tokens=LONG)

    async def cancel() -> tuple[Received, BaseException | None]:
        task = asyncio.create_task(receive(live.engine, request, Counts()))
        await asyncio.sleep(0.1)
        task.cancel()
        return await task

    received, cancellation = live.run(cancel())
    assert isinstance(cancellation, asyncio.CancelledError)
    assert received.error is not None
    assert (received.error.kind, received.finish_reason) == ("interrupted", None)
    assert received.token_ids[:24] == expected[: len(received.token_ids)]
    live.run(live.engine.reset())  # refused where the engine still holds the request
    assert live.ask(prompt).token_ids == expected


def test_a_stream_that_is_closed_early_drops_the_request(live: LiveEngine) -> None:
    prompt = live.prompts[7]
    expected = live.ask(prompt).token_ids
    request = live.request(prompt, max_new_tokens=LONG)

    async def close() -> None:
        async with aclosing(live.engine.stream(request)) as stream:  # type: ignore[type-var]
            async for chunk in stream:
                assert chunk.finish_reason is None
                break

    live.run(close())
    live.run(live.engine.reset())
    again = GenerationRequest(
        request_id=request.request_id, prompt_token_ids=prompt, sampling=live.request((1,)).sampling
    )
    assert live.run(live.receive(again)).token_ids == expected


def test_a_request_that_fails_in_mid_stream_keeps_what_came_and_others_go_on(live: LiveEngine) -> None:
    prompt, other = live.prompts[:2]
    whole = live.ask(prompt, max_new_tokens=LONG).token_ids
    expected = live.ask(other).token_ids
    request = live.request(prompt, max_new_tokens=LONG)
    is_shared = live.max_concurrency > 1 and live.case.has_model

    async def fail() -> tuple[Received, list[Received]]:
        counts = Counts()
        with live.case.failing(live.engine, request.request_id, counts):
            others = [live.receive(live.request(other))] if is_shared else []
            failed, *rest = await asyncio.gather(live.receive(request, counts), *others)
        return failed, rest

    failed, rest = live.run(fail())
    assert failed.error is not None
    assert (failed.error.kind, failed.finish_reason) == ("engine_error", None)
    assert 1 <= len(failed.token_ids) < LONG
    assert failed.token_ids == whole[: len(failed.token_ids)]
    assert sum(failed.sizes) == len(failed.token_ids)
    assert [one.token_ids for one in rest] == [expected] * len(rest)
    assert live.ask(other).token_ids == expected
