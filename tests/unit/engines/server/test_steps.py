"""Requests whose steps are written down by hand, as one event each and with events joined."""

import pytest

from specdec_bench.engines.server.prometheus import Metrics, difference
from specdec_bench.engines.server.steps import Counts, EventLog, Steps, plain_steps, rebuild
from specdec_bench.errors import EngineError
from specdec_bench.records.request import AcceptanceCounters, RequestMade


def counts(accepted: list[int], proposed: list[int], *, always: bool = True) -> Counts:
    histogram = [accepted.count(number) for number in range(4)]
    counters = AcceptanceCounters(
        num_verify_steps=len(accepted),
        num_accepted=sum(accepted),
        num_proposed=sum(proposed),
        histogram=tuple(histogram),
        per_step_accepted=tuple(accepted),
        per_step_proposed=tuple(proposed),
    )
    return Counts(counters, always_drafts=always)


def test_every_event_is_one_step() -> None:
    """12 tokens: the prefill's, then 3, 1, 2, 3 and 2; the last step accepted 3 drafts and was cut at the limit."""
    steps = rebuild([1, 3, 1, 2, 3, 2], counts([2, 0, 1, 2, 3], [3] * 5))
    assert steps == Steps([0, 3, 3, 3, 3, 3], [0, 2, 0, 1, 2, 3], 5)


def test_joined_events_have_no_counts_of_their_own() -> None:
    """The steps of 1 and 2 tokens came as one event. All steps draft, so their number is known all the same."""
    steps = rebuild([1, 3, 3, 3, 2], counts([2, 0, 1, 2, 3], [3] * 5))
    assert steps == Steps([None] * 5, [None] * 5, 5)


def test_steps_without_drafts_emit_one_token_each() -> None:
    """Lookup found nothing in the first and third decode step: two verify steps among four."""
    steps = rebuild([1, 1, 3, 1, 2], counts([2, 1], [3, 3], always=False))
    assert steps.accepted == [0, 0, 2, 0, 1]
    assert steps.num_decode_steps == 4


def test_joined_events_of_a_method_that_drafts_sometimes_hide_the_number_of_steps() -> None:
    assert rebuild([1, 4, 3], counts([2, 1], [3, 3], always=False)).num_decode_steps is None


def test_a_reply_of_one_token_has_no_step() -> None:
    assert rebuild([1], counts([], [])) == Steps([0], [0], 0)


def test_plain_decoding_emits_one_token_a_step() -> None:
    assert plain_steps([1, 1, 2]) == Steps([0, 0, None], [0, 0, None], 3)


def test_events_are_passed_on_as_they_come_and_then_whole() -> None:
    log = EventLog()
    log.note([5], 10)
    log.note([6, 7], 20)
    assert (log.new().token_ids, log.new().token_ids) == ([5, 6, 7], [])
    log.note([8], 30)
    new = log.new()
    assert (new.token_ids, new.sizes, new.times_ns, new.num_accepted) == ([8], [1], [30], [None])
    whole = log.whole(Steps([0, 3, 3], [0, 1, 0], 2), "length", None, RequestMade())
    assert (whole.token_ids, whole.num_accepted, whole.is_whole) == ([5, 6, 7, 8], [0, 1, 0], True)
    assert (new.are_exact, whole.are_exact) == (False, True)
    joined = log.whole(Steps([0, None, None], [0, None, None], 3), "length", None, RequestMade())
    assert not joined.are_exact


TEXT = """\
# HELP vllm:drafts_total drafts
vllm:drafts_total{engine="0",model_name="a,\\"b"} 3.0
vllm:drafts_total{engine="1",model_name="a"} 4
vllm:per_pos_total{engine="0",position="0"} 2.0
vllm:per_pos_total{engine="1",position="0"} 1.0
vllm:per_pos_total{engine="0",position="1"} 5e0
vllm:load NaN garbage
"""


def test_counters_are_summed_over_engines() -> None:
    metrics = Metrics(TEXT)
    assert metrics.total("vllm:drafts_total") == 7
    assert metrics.total("vllm:nothing") is None
    assert metrics.by_label("vllm:per_pos_total", "position") == {"0": 3, "1": 5}


@pytest.mark.parametrize(("before", "grew"), [(TEXT, 0), ("", 7)])
def test_a_counter_grows_from_what_it_was(before: str, grew: int) -> None:
    assert difference(Metrics(TEXT), Metrics(before), "vllm:drafts_total") == grew


@pytest.mark.parametrize("after", [TEXT.replace("} 4\n", "} 3\n"), ""])
def test_a_counter_that_fell_is_of_another_server(after: str) -> None:
    with pytest.raises(EngineError, match=r"vllm:drafts_total fell from 7 to (6|None)"):
        difference(Metrics(after), Metrics(TEXT), "vllm:drafts_total")
