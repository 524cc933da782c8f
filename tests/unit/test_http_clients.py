"""The arithmetic of benchmarks/http_clients.py, on records that a person can check."""

import pytest
from http_client_errors import Seen, Sent, compare, keys, largest_load_below, lateness_ms, p50_and_p99
from http_clients import reach, summarized, table

MS = 10**6


def sent(number: int, *sent_ms: int, x_request_id: str | None = None, is_complete: bool = True) -> Sent:
    """A request that was read at 100 ms; each event was due 1 ms before it was written. Its steps accept 2 and 0."""
    return Sent(
        number=number,
        x_request_id=x_request_id,
        received_ns=100 * MS,
        due_ns=[(at - 1) * MS for at in sent_ms],
        sent_ns=[at * MS for at in sent_ms],
        per_step=[2, 0],
        is_complete=is_complete,
    )


def test_errors_are_absolute_and_against_when_events_were_written() -> None:
    """TTFT 150 - 100 = 50 ms and 60 ms; steps of 10 and 10, and of 10 and 20 ms."""
    stated = [sent(1, 150, 160, 170), sent(2, 160, 170, 190, x_request_id="mine")]
    seen = [Seen("#1", 53, [9, 12], [2, 0]), Seen("mine", 59, [10, 20.5], [2, 0])]
    errors = compare(seen, keys(stated))
    assert errors.ttft_ms == [3, 1]
    assert errors.gaps_ms == [1, 2, 0, 0.5]
    assert errors.num_other_events == 0
    assert errors.counts_are_exact
    assert errors.num_events == 6
    assert (errors.began_ns, errors.ended_ns) == (100 * MS, 190 * MS)
    assert lateness_ms(stated) == [1] * 6
    assert p50_and_p99(errors.gaps_ms) == pytest.approx((0.75, 1.97))  # of 0, 0.5, 1, 2: 1 + 0.97 x (2 - 1)


def test_what_a_client_does_not_tell_has_no_error() -> None:
    errors = compare([Seen("#1", 50, None, None)], keys([sent(1, 150, 160, 170)]))
    assert errors.gaps_ms is None
    assert errors.counts_are_exact is None
    assert p50_and_p99(errors.gaps_ms) is None


def test_merged_events_and_wrong_counts_show() -> None:
    """The first client saw 2 of 3 events; the counts of the second request are wrong."""
    stated = keys([sent(1, 150, 160, 170), sent(2, 150, 160, 170)])
    errors = compare([Seen("#1", 50, [20], [2, 0]), Seen("#2", 50, [10, 10], [2, 1])], stated)
    assert errors.num_other_events == 1
    assert errors.gaps_ms == [0, 0]
    assert errors.counts_are_exact is False


@pytest.mark.parametrize("seen", [["#3"], ["#1", "#1"], ["#2"], []])
def test_a_record_that_is_of_no_request_is_refused(seen: list[str]) -> None:
    """Request 2 was not answered to the end, and there is no request 3."""
    stated = keys([sent(1, 150, 160, 170), sent(2, 150, is_complete=False)])
    with pytest.raises(ValueError, match="the client has"):
        compare([Seen(key, 50, None, None) for key in seen], stated)


def test_of_two_requests_with_the_same_id_the_last_counts() -> None:
    """A client that tries the server first may send the first request's id twice."""
    found = keys([sent(1, 150, x_request_id="a"), sent(2, 150, x_request_id="a")])
    assert found["a"].number == 2


def test_the_reach_ends_at_the_first_load_beyond_the_limit() -> None:
    assert largest_load_below(2, {64: [0.1, 1.9], 256: [0.1, 2.0], 512: [0.1, 0.1]}) == 64
    assert largest_load_below(2, {64: [3.0]}) is None


def run(client: str, ttft_ms: float, **more: object) -> dict[str, object]:
    return {
        "client": client,
        "in_flight": 64,
        "step_ms": 10,
        "ttft_error_ms": (ttft_ms, 5),
        "later_ttft_error_ms": (ttft_ms / 2, 4),
        "step_error_ms": (0.5, 1),
        "server_lateness_ms": (0.1, 0.2),
        "cpu_s_per_1000_events": 0.02,
        "events_per_s": 6000,
        "requests_with_other_events": 0,
        "acceptance_is_exact": True,
        "totals_are_exact": None,
    } | more


def test_the_table_has_medians_of_the_runs_that_did_not_fail() -> None:
    failed = {"client": "b", "in_flight": 64, "step_ms": 10, "failed": "exit status 1"}
    silent = run("c", 1, step_error_ms=None, acceptance_is_exact=None, totals_are_exact=True)
    rows = summarized([run("a", 1), run("a", 4), run("a", 2, acceptance_is_exact=False), failed, silent])
    lines = table(rows).splitlines()[2:]
    assert lines == [
        "| 64 | 10 | a | 2.00 / 5.00 | 1.00 / 4.00 | 0.50 / 1.00 | 20.0 | 6,000 | wrong | 0.10 / 0.20 |",
        "| 64 | 10 | b | failed | – | – | – | – | – | – |",
        "| 64 | 10 | c | 1.00 / 5.00 | 0.50 / 4.00 | – | 20.0 | 6,000 | totals exact | 0.10 / 0.20 |",
    ]
    assert reach(rows) == {"a": None, "b": None, "c": 64}


def test_the_table_does_not_round_a_small_error_to_nothing() -> None:
    (line,) = table(summarized([run("a", 0.25, step_error_ms=(0.00043, 0.0156))])).splitlines()[2:]
    assert "| 0.25 / 5.00 | 0.12 / 4.00 | 0.0004 / 0.02 |" in line
