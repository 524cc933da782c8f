"""Speedups of a few requests whose times can be added up by hand."""

import numpy as np
import pytest

from specdec_bench.compare.speedup import NotJudged, RunTimes, ideal_speedup, recommend, speedup
from specdec_bench.records.interval import Interval
from specdec_bench.records.request import RequestError, Step
from tests.helpers import build

MS = 1_000_000


def request(
    prompt: str, tpot_ms: int, *, turn: int = 0, repeat: int = 0, sent_ms: int = 0, **changes: object
) -> object:
    """First token after 10 ms, then 4 more, `tpot_ms` apart."""
    times = [sent_ms + 10 + tpot_ms * i for i in range(5)]
    values: dict[str, object] = {
        "request_id": f"{prompt}/{turn}/{repeat}",
        "prompt_id": prompt,
        "turn": turn,
        "repeat": repeat,
        "scheduled_ns": sent_ms * MS,
        "sent_ns": sent_ms * MS,
    }
    return build.request((Step(received_ns=at * MS, num_tokens=1) for at in times), **(values | changes))


def run(*records: object) -> RunTimes:
    return RunTimes(records)  # type: ignore[arg-type]


def test_means_are_over_conversations() -> None:
    # a: turns of 8 and 12 ms, mean 10; b: 20. Over conversations (10 + 20) / 2 = 15, over requests 40 / 3.
    plain = run(request("a", 8), request("a", 12, turn=1), request("b", 20))
    drafted = run(request("b", 4), request("a", 5, turn=1), request("a", 5))
    found = speedup([plain], [drafted])
    assert (found.num_pairs, found.num_left_out, found.num_conversations) == (3, 0, 2)
    assert found.speedup_tpot.value == pytest.approx(15 / 4.5)
    # End to end is 10 ms and 4 TPOT: (50 + 90) / 2 over (30 + 26) / 2.
    assert found.speedup_e2e.value == pytest.approx(70 / 28)


def test_a_request_that_failed_on_one_side_is_left_out_on_both() -> None:
    failed = request("b", 4, error=RequestError(kind="engine_error", message="no"))
    found = speedup([run(request("a", 8), request("b", 100))], [run(request("a", 4), failed)])
    assert (found.num_pairs, found.num_left_out) == (1, 1)
    assert found.speedup_tpot == Interval(value=2.0, low=None, high=None)


def test_warm_up_is_in_no_figure() -> None:
    assert run(request("a", 8, phase="warmup")).requests == {}


def test_nothing_in_common_is_undefined() -> None:
    nothing = Interval(value=None, low=None, high=None)
    assert speedup([run(request("a", 8))], [run(request("b", 8))]).speedup_tpot == nothing


def test_from_five_repeats_on_what_varies_between_them_widens_the_interval() -> None:
    # Both prompts twice as fast, so that they do not differ; repeats of 5 ms on average with a variance of 1.
    plain = run(*(request(p, 10, repeat=r) for p in "ab" for r in range(5)))
    drafted = run(*(request(p, tpot, repeat=r) for p in "ab" for r, tpot in enumerate((4, 6, 4, 6, 5))))
    found = speedup([plain], [drafted]).speedup_tpot
    # Student's t at 97.5% with 4 degrees of freedom is 2.776; the mean's relative variance is 1 / 25 / 5.
    margin = np.exp(2.776 * np.sqrt(1 / 25 / 5))
    assert found.value == 2
    assert (found.low, found.high) == (pytest.approx(2 / margin, rel=1e-3), pytest.approx(2 * margin, rel=1e-3))
    four = [
        [run(*(request(p, t, repeat=r) for p in "ab" for r, t in enumerate(times)))] for times in ((9,) * 4, (3,) * 4)
    ]
    assert speedup(*four).speedup_tpot == Interval(value=3.0, low=3.0, high=3.0)


def test_repeats_add_up_to_the_run() -> None:
    # Two repeats of 5 tokens: the first ends after 50 ms, the second, sent then, 30 ms later.
    times = run(request("a", 10), request("a", 5, repeat=1, sent_ms=50))
    repeats = times.repeats()
    assert repeats is not None
    tokens, seconds = repeats
    assert list(tokens) == [5, 5]
    assert list(seconds) == pytest.approx([0.05, 0.03])
    found = speedup([run(request("a", 10), request("a", 10, repeat=1, sent_ms=50))], [times])
    assert found.speedup_throughput == Interval(value=pytest.approx(100 / 80), low=None, high=None)


def test_throughput_has_an_interval_from_five_repeats_on() -> None:
    plain = run(*(request("a", 10, repeat=r, sent_ms=50 * r) for r in range(5)))
    drafted = run(*(request("a", 5 - r % 2, repeat=r, sent_ms=30 * r) for r in range(5)))
    found = speedup([plain], [drafted]).speedup_throughput
    assert found.low <= found.value <= found.high


def test_repeats_that_overlap_leave_the_ratio_and_no_interval() -> None:
    # The first repeat's request outlasts all the others'.
    plain = run(request("a", 100), *(request("a", 5, repeat=r, sent_ms=30 * r) for r in range(1, 5)))
    assert plain.repeats() is None
    found = speedup([plain], [plain]).speedup_throughput
    assert found == Interval(value=1.0, low=None, high=None)


def test_runs_of_one_cell_are_compared_in_pairs() -> None:
    # The machine takes 10 ms, then 20, then 40 a token; the method is 2, 2.5 and 2 times as fast beside each. Both
    # prompts alike, so that they add nothing.
    plain = [run(request("a", tpot), request("b", tpot, sent_ms=500)) for tpot in (10, 20, 40)]
    drafted = [run(request("a", tpot), request("b", tpot, sent_ms=500)) for tpot in (5, 8, 20)]
    found = speedup(plain, drafted)
    assert (found.num_runs, found.num_pairs, found.num_conversations) == (3, 6, 2)
    # Student's t at 97.5% with 2 degrees of freedom is 4.303. Drift from run to run is in neither ratio.
    margin = np.exp(4.303 * np.log([2, 2.5, 2]).std(ddof=1) / np.sqrt(3))
    value = 70 / 33
    assert found.speedup_tpot == Interval(
        value=pytest.approx(value),
        low=pytest.approx(value / margin, rel=1e-3),
        high=pytest.approx(value * margin, rel=1e-3),
    )
    # 10 tokens in 500 ms and what the last request takes: 10 ms and 4 TPOT.
    plain_ms, drafted_ms = np.array([550, 590, 670]), np.array([530, 542, 590])
    margin = np.exp(4.303 * np.log(plain_ms / drafted_ms).std(ddof=1) / np.sqrt(3))
    value = plain_ms.sum() / drafted_ms.sum()
    assert found.speedup_throughput == Interval(
        value=pytest.approx(value),
        low=pytest.approx(value / margin, rel=1e-3),
        high=pytest.approx(value * margin, rel=1e-3),
    )


def test_a_run_without_tokens_leaves_no_throughput() -> None:
    nothing = Interval(value=None, low=None, high=None)
    assert speedup([run(request("a", 8)), run()], [run(request("a", 8))] * 2).speedup_throughput == nothing


def test_the_ideal_speedup() -> None:
    assert ideal_speedup(2.4, 3, 0.1) == pytest.approx(2.4 / 1.3)


def cell(*tpots: int) -> list[RunTimes]:
    """Runs of one cell, as many as given: 20 conversations of about so many ms a token."""
    return [run(*(request(f"p{i}", tpot + i % 3) for i in range(20))) for tpot in tpots]


@pytest.mark.parametrize(("num_runs", "why"), [(1, "single runs"), (2, "2 runs of each, of at least 3")])
def test_nothing_is_said_of_fewer_than_three_runs(num_runs: int, why: str) -> None:
    found = recommend(cell(40, 40)[:num_runs], {"fast": cell(10, 10)[:num_runs]})
    assert found == NotJudged(not_judged=why)


def test_repeats_of_one_run_do_not_stand_for_runs() -> None:
    plain, fast = ([run(*(request(p, ms, repeat=r) for p in "ab" for r in range(9)))] for ms in (40, 10))
    assert recommend(plain, {"fast": fast}).not_judged == "single runs"


def test_what_is_clearly_the_fastest_is_named() -> None:
    found = recommend(cell(40, 41, 40), {"fast": cell(10, 11, 10), "slow": cell(60, 62, 61)})
    assert (found.not_judged, found.best, found.runner_up, found.tied) == (None, "fast", "none", ())
    assert sorted(found.p_values) == ["none", "slow"]
    # Plain decoding is a candidate like the others.
    assert recommend(cell(40, 40, 40), {"slow": cell(60, 62, 61)}).best == "none"


def test_what_is_fastest_in_two_runs_of_three_is_a_tie() -> None:
    found = recommend(cell(40, 40, 40), {"steady": cell(20, 20, 20), "lucky": cell(17, 21, 19)})
    assert (found.best, found.runner_up, found.tied) == ("lucky", "steady", ("steady",))


def test_what_is_faster_on_half_of_the_conversations_is_a_tie() -> None:
    def uneven() -> RunTimes:
        return run(*(request(f"p{i}", 10 + i % 3 + (2 if i % 2 else -3)) for i in range(20)))

    found = recommend(cell(40, 41, 40), {"even": cell(10, 10, 10), "uneven": [uneven() for _ in range(3)]})
    assert (found.best, found.tied) == ("uneven", ("even",))


def test_what_cannot_be_compared_is_not_judged() -> None:
    other = [run(request("x", 5), request("y", 5))] * 3
    assert recommend(cell(40, 40, 40), {"other": other}).not_judged == "no request finished in every run"
    alone = [run(request("x", 9))] * 3
    assert recommend(alone, {"other": other}).not_judged == "a single conversation"
