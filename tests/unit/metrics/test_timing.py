"""Latency and throughput of requests whose times a person can add up. Times are in ms unless they say s."""

import random
from collections.abc import Sequence

import pytest
from msgspec.structs import asdict, astuple

from specdec_bench.metrics.distribution import describe
from specdec_bench.metrics.timing import Timings
from specdec_bench.records.request import AcceptanceSource, RequestRecord, Step
from specdec_bench.records.summary import Distribution
from tests.helpers import build

MS = 1_000_000
S = 1_000_000_000


def request(
    sent: int | None,
    *chunks: tuple[int, int],
    unit: int = MS,
    scheduled: int | None = None,
    source: AcceptanceSource | None = "engine_request",
    is_told: bool = True,
) -> RequestRecord:
    """A request with these chunks, each (received, tokens); `is_told`: each is known to be one engine step."""
    steps = [
        Step(
            received_ns=received * unit,
            num_tokens=tokens,
            num_proposed=3 if is_told else None,
            num_accepted=tokens - 1 if is_told else None,
        )
        for received, tokens in chunks
    ]
    return build.request(
        steps,
        scheduled_ns=(sent or 0) * unit if scheduled is None else scheduled * unit,
        sent_ns=None if sent is None else sent * unit,
        acceptance_source=source,
    )


def timings(*records: RequestRecord) -> Timings:
    found = Timings()
    for record in records:
        found.add(record)
    return found


def latency(name: str, *records: RequestRecord) -> Distribution:
    found: Distribution = getattr(timings(*records).latency(), name)
    return found


# ---------------------------------------------------------------- distributions


def test_a_distribution_by_hand() -> None:
    """Percentiles are linear: p90 of five values lies 0.6 of the way from the fourth to the fifth."""
    assert asdict(describe([300, 0, 400, 100, 200])) == {
        "count": 5,
        "mean": 200.0,
        "std": pytest.approx(25_000**0.5),  # sample: 100,000 / 4
        "min": 0.0,
        "p25": 100.0,
        "p50": 200.0,
        "p75": 300.0,
        "p90": pytest.approx(360.0),
        "p95": pytest.approx(380.0),
        "p99": pytest.approx(396.0),
        "max": 400.0,
    }


def test_percentiles_of_zero_to_a_hundred_are_their_names() -> None:
    values = list(range(101))
    random.Random(0).shuffle(values)
    found = describe(values)
    assert [getattr(found, name) for name in ("p25", "p50", "p75", "p90", "p95", "p99")] == [25, 50, 75, 90, 95, 99]


def test_one_value_has_no_spread() -> None:
    found = asdict(describe([7]))
    assert found.pop("count") == 1
    assert found.pop("std") is None
    assert set(found.values()) == {7.0}


def test_no_value_is_null_and_not_zero() -> None:
    found = asdict(describe([]))
    assert found.pop("count") == 0
    assert set(found.values()) == {None}


# ---------------------------------------------------------------- one request


def test_one_request_by_hand() -> None:
    """Sent at 10; tokens 1, 3 and 2 received at 50, 62 and 72."""
    found = timings(request(10, (50, 1), (62, 3), (72, 2), scheduled=8)).latency()
    assert found.queue_time_ms.mean == 2.0
    assert found.ttft_from_schedule_ms.mean == 42.0
    assert found.e2e_from_schedule_ms.mean == 64.0
    assert found.ttft_ms.mean == 40.0
    assert found.e2e_ms.mean == 62.0
    assert found.tpot_ms.mean == 22 / 5
    assert (found.step_time_ms.count, found.step_time_ms.mean) == (2, 11.0)
    # 12 ms over 3 tokens and 10 ms over 2: 4, 4, 4, 5, 5
    assert (found.itl_ms.count, found.itl_ms.mean, found.itl_ms.p50) == (5, 22 / 5, 4.0)


def test_ttft_is_in_no_step_time() -> None:
    """5 s to the first token and steps of 0.1 s; with TTFT among the steps the mean reads 1.325 s."""
    found = timings(request(0, (5000, 1), (5100, 2), (5200, 2), (5300, 2))).latency()
    assert found.step_time_ms.count == 3
    assert found.step_time_ms.mean == 100.0
    assert found.step_time_ms.max == 100.0
    assert found.itl_ms.max == 50.0
    assert found.tpot_ms.mean == 50.0


def test_steps_never_run_from_one_request_to_the_next() -> None:
    found = latency("step_time_ms", request(0, (10, 1), (20, 1)), request(500, (510, 1), (540, 1)))
    assert (found.count, found.min, found.max) == (2, 10.0, 30.0)


def test_tokens_of_the_first_chunk_are_in_no_tpot() -> None:
    """Four tokens came at once: the 20 ms after them bought two."""
    assert latency("tpot_ms", request(0, (40, 4), (60, 2))).mean == 10.0


@pytest.mark.parametrize("tokens", [1, 5])
def test_a_request_of_one_chunk_has_no_tpot_and_no_step(tokens: int) -> None:
    found = timings(request(0, (40, tokens)))
    assert found.latency().ttft_ms.mean == found.latency().e2e_ms.mean == 40.0
    for name in ("tpot_ms", "step_time_ms", "itl_ms"):
        assert getattr(found.latency(), name).count == 0
        assert getattr(found.latency(), name).mean is None
    assert found.merged_share is None
    assert found.throughput(1, 0).output_tps_per_user is None


def test_a_single_token_output_does_not_pull_tpot_towards_zero() -> None:
    found = latency("tpot_ms", request(0, (40, 1)), request(0, (40, 1), (52, 1)))
    assert (found.count, found.mean) == (1, 12.0)


def test_tpot_and_itl_weigh_differently() -> None:
    """TPOT is a mean over requests, ITL over tokens: 10 ms for one token, 2 ms each for four."""
    records = [request(0, (40, 1), (50, 1)), request(0, (40, 1), (48, 4))]
    assert latency("tpot_ms", *records).mean == 6.0
    assert latency("itl_ms", *records).mean == 18 / 5


@pytest.mark.parametrize("record", [request(None), request(5)], ids=["never sent", "nothing received"])
def test_a_request_without_times_is_in_no_figure(record: RequestRecord) -> None:
    found = timings(record)
    assert {times.count for times in astuple(found.latency())} == {0}
    assert asdict(found.throughput(1, 1)) == {
        "output_tps": None,
        "output_tps_steady": None,
        "output_tps_per_gpu": None,
        "output_tps_per_user": None,
        "output_tps_per_request": describe([]),
        "request_rate": None,
        "output_tokens": 0,
        "duration_s": None,
        "steady_duration_s": None,
        "num_accelerators": 1,
    }


# ---------------------------------------------------------------- merged chunks


def test_merged_chunks_leave_no_step_time() -> None:
    """The gap between two chunks of an engine that merges its steps is not a step."""
    found = timings(
        request(0, (40, 1), (60, 8), (70, 4), source="stream", is_told=False),
        request(0, (40, 1), (50, 2), source="engine_request"),
    )
    assert (found.num_merged, found.merged_share) == (2, 2 / 3)
    for name in ("step_time_ms", "itl_ms"):
        assert getattr(found.latency(), name).count == 0
    assert found.latency().tpot_ms.count == 2, "first and last chunk are where they are"


def test_chunks_that_arrived_together_leave_no_step_time() -> None:
    """The second and third chunk came in one read: neither the gap of 20 ms nor that of 0 is a step."""
    found = timings(request(0, (40, 1), (60, 1), (60, 3), (70, 4)), request(0, (60, 1)))
    assert (found.num_joined, found.joined_share) == (1, 1 / 3)
    for name in ("step_time_ms", "itl_ms"):
        assert getattr(found.latency(), name).count == 0
    assert found.latency().tpot_ms.mean == 30 / 8


def test_one_chunk_in_a_hundred_that_arrived_with_another_distorts_no_percentile() -> None:
    apart = [(at, 1) for at in range(101)]
    found = timings(request(0, *apart[:-1], apart[-2]))
    assert (found.num_joined, found.joined_share) == (1, 1 / 100)
    assert found.latency().step_time_ms.p50 == 1
    assert timings(request(0, *apart)).num_joined == 0


def test_plain_chunks_of_one_token_are_steps() -> None:
    found = timings(request(0, (40, 1), (50, 1), (65, 1), source=None, is_told=False))
    assert found.num_merged == 0
    assert found.latency().step_time_ms.mean == 12.5


def test_plain_chunks_of_several_tokens_are_merged() -> None:
    found = timings(request(0, (40, 1), (50, 1), (65, 2), source=None, is_told=False))
    assert found.num_merged == 1
    assert found.latency().step_time_ms.count == 0


def test_a_drafting_engines_chunk_of_one_token_may_still_be_any_step() -> None:
    assert timings(request(0, (40, 1), (50, 1), source="stream", is_told=False)).num_merged == 1


# ---------------------------------------------------------------- throughput


def seconds(sent: int, *chunks: tuple[int, int]) -> RequestRecord:
    return request(sent, *chunks, unit=S)


def test_rates_by_hand() -> None:
    """From 1 s to 11 s: 20 tokens of 2 requests."""
    found = timings(seconds(1, (3, 1), (5, 9)), seconds(2, (4, 1), (11, 9))).throughput(2, 4)
    assert found.duration_s == 10.0
    assert found.output_tokens == 20
    assert found.output_tps == 2.0
    assert found.output_tps_per_gpu == 0.5
    assert found.request_rate == 0.2


def test_per_user_is_the_rate_of_all_decoding_together() -> None:
    """4 tokens in 2 s and 9 in 3 s; the first chunk's tokens came with the TTFT and do not count."""
    found = timings(seconds(0, (1, 5), (2, 2), (3, 2)), seconds(0, (1, 1), (4, 9)), seconds(0, (7, 5))).throughput(2, 1)
    assert found.output_tps_per_user == (4 + 9) / (2 + 3)
    per_request = found.output_tps_per_request
    assert (per_request.count, per_request.min, per_request.mean, per_request.max) == (2, 2.0, 2.5, 3.0)


def test_a_few_fast_replies_do_not_lift_the_rate_per_user() -> None:
    """One reply of 10 tokens in 1 s beside one of 10 in 9 s: 2 tokens a second, where plain decoding gives 4."""
    drafted = timings(seconds(0, (1, 1), (2, 10)), seconds(0, (1, 1), (10, 10))).throughput(2, 1)
    plain = timings(seconds(0, (1, 1), (2, 4)), seconds(0, (1, 1), (5, 16))).throughput(2, 1)
    assert (drafted.output_tps_per_user, plain.output_tps_per_user) == (2.0, 4.0)
    assert drafted.output_tps_per_request.mean > plain.output_tps_per_request.mean


def test_without_accelerators_there_is_no_rate_per_gpu() -> None:
    assert timings(seconds(0, (1, 1), (2, 1))).throughput(1, 0).output_tps_per_gpu is None


def steady(concurrency: int | None, *records: RequestRecord) -> tuple[float | None, float | None]:
    found = timings(*records).throughput(concurrency, 1)
    return found.steady_duration_s, found.output_tps_steady


RAMP = (
    seconds(0, (5, 100), (40, 10)),
    seconds(10, (20, 3), (60, 7)),
    seconds(40, (50, 5), (90, 100)),
)
"""Two in flight from 10 to 40 and, the third taking the first one's slot at once, on to 60; then the drain."""


def test_the_steady_window_has_neither_ramp_nor_drain() -> None:
    """Of 225 tokens in 90 s, the 25 received after 10 and up to 60 are steady."""
    found = timings(*RAMP).throughput(2, 1)
    assert found.output_tps == 225 / 90
    assert steady(2, *RAMP) == (50.0, 25 / 50)


def test_the_order_of_the_records_does_not_matter() -> None:
    """They are archived as they finish."""
    assert steady(2, *reversed(RAMP)) == (50.0, 25 / 50)


def test_a_dip_between_two_turns_lies_within_the_steady_window() -> None:
    late = seconds(45, (50, 5), (90, 100))
    assert steady(2, RAMP[0], RAMP[1], late) == (50.0, 25 / 50)


def test_with_one_at_a_time_all_is_steady() -> None:
    assert steady(1, seconds(0, (5, 1), (10, 9)), seconds(12, (13, 1), (20, 9))) == (20.0, 1.0)


@pytest.mark.parametrize("concurrency", [3, None], ids=["never reached", "not a closed loop"])
def test_a_concurrency_that_was_never_reached_has_no_steady_window(concurrency: int | None) -> None:
    assert steady(concurrency, *RAMP) == (None, None)


def test_two_requests_that_meet_at_one_instant_were_not_in_flight_together() -> None:
    assert steady(2, seconds(0, (5, 1)), seconds(5, (9, 1))) == (None, None)


def test_the_steady_window_agrees_with_counting_second_by_second() -> None:
    """Closed loops of random durations, against the window found by asking of every second who was in flight."""
    for seed in range(200):
        rng = random.Random(seed)
        concurrency = rng.randint(1, 4)
        records = closed_loop(rng, concurrency, rng.randint(1, 12))
        spans = [((r.sent_ns or 0) // S, r.steps[-1].received_ns // S) for r in records]
        # Second t stands for the interval (t, t + 1).
        full = [t for t in range(1000) if sum(sent <= t < ended for sent, ended in spans) >= concurrency]
        tokens = sum(
            step.num_tokens
            for r in records
            for step in r.steps
            if full and full[0] < step.received_ns // S <= full[-1] + 1
        )
        expected = (full[-1] + 1 - full[0], tokens / (full[-1] + 1 - full[0])) if full else (None, None)
        assert steady(concurrency, *records) == pytest.approx(expected), f"seed {seed}"


def closed_loop(rng: random.Random, concurrency: int, num_requests: int) -> Sequence[RequestRecord]:
    """Each slot sends its next request 0 to 2 s after its last one ended."""
    free = [0] * concurrency
    records = []
    for _ in range(num_requests):
        slot = free.index(min(free))
        sent = free[slot] + rng.randrange(3)
        first = sent + rng.randint(1, 3)
        last = first + rng.randint(1, 5)
        records.append(seconds(sent, (first, 1), (last, rng.randint(1, 9))))
        free[slot] = last
    return records
