"""Where the counts come from: steps, counters, the stream, or the run's totals."""

import pytest

from specdec_bench.metrics.acceptance import from_counters, request_acceptance
from specdec_bench.metrics.summary import summarize
from specdec_bench.records.request import AcceptanceCounters, RequestError, Step
from tests.helpers import build
from tests.helpers.step_counts import Counts, macro, pool, pooled, request

COUNTERS = AcceptanceCounters(
    num_verify_steps=4, num_accepted=6, num_proposed=12, num_decode_steps=5, histogram=(1, 1, 1, 1)
)
"""5 steps, 4 of them with drafts: 0, 1, 2 and 3 accepted; 11 tokens."""


@pytest.mark.parametrize(
    "chunks",
    [[(11, None, None)], [(4, None, None), (7, None, None)], [(1, None, None)] * 11],
    ids=["one chunk", "two chunks", "eleven chunks"],
)
def test_counters_hold_however_the_stream_merged_its_steps(chunks: list[Counts]) -> None:
    """Chunks that merge steps under load are no steps."""
    found = pooled(request(*chunks, prefill=(1, None, None), counters=COUNTERS))
    assert found["acceptance_length"] == 11 / 5
    assert found["acceptance_length_drafted"] == 1 + 6 / 4
    assert found["draft_acceptance_rate"] == 6 / 12
    assert found["acceptance_histogram"] == [1, 1, 1, 1]
    assert found["acceptance_joint"] == [3 / 4, 2 / 4, 1 / 4]
    assert found["acceptance_conditional"] == [3 / 4, 2 / 3, 1 / 2]
    assert found["truncated_steps"] is None, "counters do not tell where the output was cut"


def test_counters_hold_where_everything_came_in_the_first_chunk() -> None:
    """A reader that lags for the whole request gets one chunk; there is no later one to tell that steps merged."""
    found = pooled(request(prefill=(12, None, None), counters=COUNTERS))
    assert found["acceptance_length"] == 11 / 5
    assert found["verify_steps"] == 4


def test_counters_hold_where_only_the_first_chunk_is_merged() -> None:
    """The first chunk holds the prefill and 3 steps; the chunks after it tell their step but not those."""
    found = pooled(request((3, 3, 2), (4, 3, 3), prefill=(5, None, None), counters=COUNTERS))
    assert found["acceptance_length"] == 11 / 5
    assert found["acceptance_histogram"] == [1, 1, 1, 1]


def test_a_histogram_comes_from_the_counted_steps_where_the_engine_has_none() -> None:
    counters = AcceptanceCounters(num_verify_steps=3, num_accepted=4, per_step_accepted=(2, 0, 2))
    found = pool([from_counters(counters, 8)], 3)
    assert found["acceptance_histogram"] == [1, 0, 2, 0]
    assert found["acceptance_length_drafted"] == 1 + 4 / 3
    assert found["acceptance_length"] is None, "decode steps were not counted"
    assert found["draft_acceptance_rate"] is None, "proposals were not counted"


def test_nominal_proposals_leave_the_rate_undefined_and_the_length_known() -> None:
    """An engine that pads its proposals tells each step's accepted drafts only."""
    found = pooled(request((3, None, 2), (1, None, 0), (2, None, 3)))
    assert found["acceptance_length"] == 6 / 3
    assert (found["accepted"], found["truncated_steps"]) == (5, 1)
    for name in ("verify_steps", "proposed", "draft_acceptance_rate", "acceptance_length_drafted", "acceptance_joint"):
        assert found[name] is None, name


def test_one_request_that_does_not_tell_makes_the_sum_undefined() -> None:
    """A sum over the requests that do tell would pass for a sum over all."""
    silent = AcceptanceCounters(num_verify_steps=2, num_accepted=2, num_decode_steps=2)
    found = pooled(request((2, 3, 1)), request((4, None, None), counters=silent))
    assert found["acceptance_length"] == (2 + 4) / (1 + 2)
    assert found["acceptance_length_drafted"] == 1 + 3 / 3
    for name in ("proposed", "draft_acceptance_rate", "acceptance_histogram", "acceptance_joint", "truncated_steps"):
        assert found[name] is None, name


@pytest.mark.parametrize("decode", [[(3, None, None), (5, None, None)], []], ids=["merged", "one token"])
def test_a_stream_tells_tokens_per_chunk_and_nothing_of_drafts(decode: list[Counts]) -> None:
    record = request(*decode, prefill=(1, None, None), source="stream")
    found = pooled(record)
    assert found["acceptance_length"] == (8 / 2 if decode else None)
    means = macro([request_acceptance(record)], 3)
    for name in ("acceptance_length_drafted", "draft_acceptance_rate", "acceptance_joint", "acceptance_histogram"):
        assert found[name] is None, name
        assert means[name] is None, name


@pytest.mark.parametrize("decode", [[(3, None, None), (5, None, None)], []], ids=["merged", "one token"])
def test_totals_of_the_run_tell_nothing_of_a_request(decode: list[Counts]) -> None:
    record = request(*decode, prefill=(1, None, None), source="engine_total")
    assert {name for name, value in pooled(record).items() if value is not None} == {"output_tokens"}
    assert set(macro([request_acceptance(record)], 3).values()) == {None}


@pytest.mark.parametrize(
    ("sizes", "length", "is_warned_of"), [((), 10 / 5, False), ((1, 3), None, True)], ids=["no token", "cut off"]
)
def test_steps_of_requests_that_were_cut_off_are_in_the_run_s_totals(
    sizes: tuple[int, ...], length: float | None, is_warned_of: bool
) -> None:
    """The finished request has 10 tokens after the first. Those of the other may be in the 5 steps too."""
    finished = request((4, None, None), (6, None, None), prefill=(1, None, None), source="engine_total")
    steps = [Step(received_ns=number, num_tokens=size) for number, size in enumerate(sizes)]
    error = RequestError(kind="engine_error", message="the server ended the connection in mid-answer")
    failed = build.request(steps, error=error, finish_reason=None, acceptance_source="engine_total")
    totals = AcceptanceCounters(num_verify_steps=5, num_accepted=6, num_decode_steps=5)
    found = summarize([finished, failed], build.manifest(engine_totals=totals))
    assert found.acceptance.pooled.acceptance_length == length
    assert found.acceptance.pooled.acceptance_length_drafted == 1 + 6 / 5
    assert any(warning.startswith("CUT OFF: 1 request ") for warning in found.warnings) is is_warned_of


@pytest.mark.parametrize(
    ("prefill", "decode"),
    [
        ((1, None, None), [(1, None, None)] * 5),
        ((1, None, None), [(2, None, None), (3, None, None)]),
        ((1, 0, 0), [(1, 0, 0)] * 5),
        ((6, None, None), []),
    ],
    ids=["token by token", "merged", "told", "one chunk"],
)
def test_plain_decoding_is_one(prefill: Counts, decode: list[Counts]) -> None:
    found = pooled(request(*decode, prefill=prefill, source=None), k=0)
    assert found["acceptance_length"] == 1.0
    assert found["decode_steps"] == 5
    for name in ("acceptance_length_drafted", "draft_acceptance_rate", "acceptance_joint", "acceptance_histogram"):
        assert found[name] is None, name
