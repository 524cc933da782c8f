"""Acceptance by turn and context length, added up by hand."""

import pytest

from specdec_bench.metrics.breakdown import Breakdown
from specdec_bench.records.request import Step
from tests.helpers.archive_samples import make_prompt
from tests.helpers.made_archives import MS, reply

PROMPT = make_prompt()


def test_turns_are_pooled_by_themselves() -> None:
    # Turn 1: 3 + 1 tokens in 2 steps and 4 in 1 step. Turn 2: 1 token in 1 step.
    records = [reply(PROMPT, [2, 0]), reply(PROMPT, [3]), reply(PROMPT, [0], turn=1)]
    first, second = Breakdown(records).by_turn()
    assert (first.first, first.num_requests, first.num_steps) == (0, 2, 3)
    assert first.acceptance_length == pytest.approx(8 / 3)
    assert (second.first, second.num_requests, second.acceptance_length) == (1, 1, 1.0)


def test_a_step_belongs_to_the_context_that_it_began_with() -> None:
    # 126 prompt tokens and the prefill's: the steps begin at 127, 130 and 131 tokens.
    record = reply(PROMPT, [2, 0, 3], prompt_token_ids=(1,) * 126)
    below, above = Breakdown([record]).by_context()
    assert (below.first, below.num_requests, below.num_steps, below.acceptance_length) == (0, 1, 1, 3.0)
    assert (above.first, above.num_requests, above.num_steps, above.acceptance_length) == (128, 1, 2, 2.5)


@pytest.mark.parametrize(("num_tokens", "first"), [(127, 128), (254, 128), (255, 256), (511, 512), (1022, 512)])
def test_each_bucket_is_twice_as_long(num_tokens: int, first: int) -> None:
    record = reply(PROMPT, [0], prompt_token_ids=(1,) * num_tokens)
    assert [group.first for group in Breakdown([record]).by_context()] == [first]


def test_contexts_are_unknown_where_a_chunk_may_hold_several_steps() -> None:
    merged = (Step(received_ns=MS, num_tokens=1), Step(received_ns=2 * MS, num_tokens=5))
    known = reply(PROMPT, [2])
    assert Breakdown([known, reply(PROMPT, [], steps=merged)]).by_context() == []
    assert len(Breakdown([known, reply(PROMPT, [], steps=merged, steps_are_exact=True)]).by_context()) == 1


def test_warm_up_and_failed_requests_are_in_nothing() -> None:
    found = Breakdown([reply(PROMPT, [2], phase="warmup")])
    assert (found.by_turn(), found.by_context(), found.quantiles([50])) == ([], [], {})


def test_times_have_their_percentiles() -> None:
    # Prefill at 100 ms, steps at 110 and 120 ms: 4 tokens in 20 ms after the first.
    found = Breakdown([reply(PROMPT, [2, 0])]).quantiles([0, 50, 100])
    assert found["ttft_ms"] == [100.0] * 3
    assert found["e2e_ms"] == [120.0] * 3
    assert found["tpot_ms"] == [5.0] * 3
    assert found["step_time_ms"] == [10.0] * 3
