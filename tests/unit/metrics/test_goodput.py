"""Which requests met the objectives, on times that a person can add up."""

from typing import Any

import pytest

from specdec_bench.metrics.goodput import missed_objectives, stated_objectives
from specdec_bench.metrics.summary import Samples, summarize
from specdec_bench.metrics.timing import request_times
from specdec_bench.records.summary import Goodput
from tests.helpers.made_runs import S, failure, manifest, request

# Each is sent at 10 x number s; the first token comes after 1 s, then a step of 1 s.
TWO_STEPS = request(0, 1, 1)
"""5 tokens: TTFT 1 s, TPOT 2 s / 4 = 0.5 s, end to end 3 s."""
LATE = request(1, 1, 1, scheduled_ns=8 * S)
"""The same, sent 2 s after it was due: TTFT 3 s and end to end 5 s since then."""
ONE_CHUNK = request(2)
"""No TPOT; TTFT and end to end 1 s."""


def judged(*records: Any, **slo: float | None) -> Goodput:
    config = {"spec": {"name": "ngram", "draft_length": 3}, "load": {"concurrency": 1}, "slo": slo}
    made = manifest(config=config)
    return summarize(Samples(records, made), made).slo


@pytest.mark.parametrize(
    ("record", "objectives", "missed"),
    [
        (TWO_STEPS, {"ttft_ms": 1000, "tpot_ms": 500, "e2e_ms": 3000}, []),  # at the limit is within it
        (TWO_STEPS, {"ttft_ms": 999, "tpot_ms": 500, "e2e_ms": 3000}, ["ttft_ms"]),
        (TWO_STEPS, {"tpot_ms": 499, "e2e_ms": 2999}, ["tpot_ms", "e2e_ms"]),
        (LATE, {"ttft_ms": 2999}, ["ttft_ms"]),
        (LATE, {"ttft_ms": 3000, "e2e_ms": 5000}, []),
        (LATE, {"e2e_ms": 4999}, ["e2e_ms"]),
        (ONE_CHUNK, {"tpot_ms": 1}, []),
        (request(3, steps=(), output_token_ids=()), {"ttft_ms": 1, "tpot_ms": 1, "e2e_ms": 1}, ["ttft_ms", "e2e_ms"]),
    ],
)
def test_missed_objectives_by_hand(record: Any, objectives: dict[str, float], missed: list[str]) -> None:
    assert missed_objectives(request_times(record), objectives) == missed


def test_goodput_by_hand() -> None:
    """From 0 s, when the first was sent, to 21 s, when the last token came. The failed request met nothing."""
    failed = request(4, error=failure("engine_error"))
    found = judged(TWO_STEPS, LATE, ONE_CHUNK, failed, ttft_ms=2000, tpot_ms=500, e2e_ms=4000)
    assert (found.num_judged, found.num_within) == (4, 2)
    assert (found.goodput, found.share_within_slo) == (2 / 21, 0.5)
    assert found.num_missed == {"ttft_ms": 1, "tpot_ms": 0, "e2e_ms": 1}
    assert judged(TWO_STEPS, LATE, ONE_CHUNK, ttft_ms=2000, tpot_ms=400, e2e_ms=9000).most_missed == "tpot_ms"


def test_what_was_not_offered_is_not_judged() -> None:
    others = [request(n, error=failure(kind)) for n, kind in enumerate(("context_overflow", "interrupted"), start=4)]
    found = judged(TWO_STEPS, *others, request(6, phase="warmup"), ttft_ms=1)
    assert (found.num_judged, found.num_within, found.most_missed) == (1, 0, "ttft_ms")


def test_without_objectives_nothing_is_said() -> None:
    assert judged(TWO_STEPS) == judged(TWO_STEPS, ttft_ms=None) == Goodput()
    made = manifest()  # of an earlier release
    assert summarize(Samples([TWO_STEPS], made), made).slo == Goodput()


def test_a_run_in_which_nothing_finished_has_a_share_and_no_goodput() -> None:
    found = judged(request(4, error=failure("engine_error")), ttft_ms=1)
    assert (found.share_within_slo, found.goodput, found.most_missed) == (0, None, None)
    assert judged(ttft_ms=1).share_within_slo is None


def test_stated_objectives() -> None:
    assert stated_objectives({"slo": {"ttft_ms": 5, "tpot_ms": None}}) == {"ttft_ms": 5.0}
    assert stated_objectives({}) == stated_objectives({"slo": None}) == {}
