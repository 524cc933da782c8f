"""Acceptance by hand, by the traps that other tools fall into, and by an independent recomputation."""

import random
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from specdec_bench.metrics import acceptance
from specdec_bench.metrics.acceptance import RequestAcceptance, from_counters, request_acceptance
from specdec_bench.records.request import AcceptanceCounters, AcceptanceSource, RequestRecord, Step
from tests.helpers.trees import as_tree

Figures = dict[str, Any]
Counts = tuple[int, int | None, int | None]
"""Of one chunk: tokens, proposed, accepted."""


def request(
    *decode: Counts,
    prefill: Counts = (1, 0, 0),
    source: AcceptanceSource | None = "engine_request",
    counters: AcceptanceCounters | None = None,
) -> RequestRecord:
    """A request of one prefill chunk and these later ones, 1 ns apart."""
    chunks = [prefill, *decode]
    return RequestRecord(
        request_id="r",
        prompt_id="p",
        category="c",
        turn=0,
        repeat=0,
        phase="measure",
        scheduled_ns=0,
        sent_ns=0,
        prompt_token_ids=(1,),
        output_token_ids=tuple(range(sum(tokens for tokens, _, _ in chunks))),
        steps=tuple(
            Step(received_ns=i, num_tokens=tokens, num_proposed=proposed, num_accepted=accepted)
            for i, (tokens, proposed, accepted) in enumerate(chunks)
        ),
        counters=counters,
        acceptance_source=source,
        finish_reason="length",
    )


def figures(counts: Sequence[RequestAcceptance], k: int) -> Figures:
    found: Figures = as_tree(acceptance.figures(counts, k))
    return found


def macro(counts: Sequence[RequestAcceptance], k: int, groups: Sequence[Any] | None = None) -> Figures:
    found: Figures = as_tree(acceptance.macro(counts, k, groups))
    return found


def pooled(*records: RequestRecord, k: int = 3) -> dict[str, Any]:
    return figures([request_acceptance(record) for record in records], k)


def test_one_request_by_hand() -> None:
    """Prefill, then 3 of 3, 1 of 3, 0 of 3 and 1 of 2 accepted: 9 tokens in 4 decode steps."""
    found = pooled(request((4, 3, 3), (2, 3, 1), (1, 3, 0), (2, 2, 1)))
    assert found == {
        "output_tokens": 10,
        "decode_steps": 4,
        "verify_steps": 4,
        "proposed": 11,
        "accepted": 5,
        "truncated_steps": 0,
        "acceptance_length": 9 / 4,
        "acceptance_length_drafted": 1 + 5 / 4,
        "draft_acceptance_rate": 5 / 11,
        "acceptance_joint": [3 / 4, 1 / 4, 1 / 4],
        "acceptance_conditional": [3 / 4, 1 / 3, 1.0],
        "acceptance_histogram": [1, 2, 0, 1],
    }


def test_the_prefill_is_no_step() -> None:
    """PEERS 3: with the prefill as a step a true 4.0 over 10 steps reads 41 / 11 = 3.73."""
    found = pooled(request(*[(4, 3, 3)] * 10))
    assert found["acceptance_length"] == 4.0
    assert found["decode_steps"] == 10
    assert found["acceptance_joint"] == [1.0, 1.0, 1.0], "the prefill accepted nothing and must not deflate this"


def test_positions_that_no_step_reached_are_there() -> None:
    """PEERS 7: steps that accepted 0 and 2 but none that accepted 1 or 3."""
    found = pooled(request((1, 3, 0), (3, 3, 2), (3, 3, 2)), k=4)
    assert found["acceptance_histogram"] == [1, 0, 2, 0, 0]
    assert found["acceptance_joint"] == [2 / 3, 2 / 3, 0.0, 0.0]
    # After position 2 nothing was accepted: position 3 failed every time (0), position 4 was never tried (null).
    assert found["acceptance_conditional"] == [2 / 3, 1.0, 0.0, None]


def test_position_one_is_measured_not_assumed() -> None:
    assert pooled(request((1, 3, 0), (2, 3, 1)))["acceptance_conditional"][0] == 1 / 2


def test_the_sum_of_joint_is_the_drafted_length() -> None:
    found = pooled(request((4, 3, 3), (2, 3, 1), (1, 3, 0), (3, 3, 2), (1, 0, 0)))
    assert 1 + sum(found["acceptance_joint"]) == found["acceptance_length_drafted"] == 2.5


def test_a_step_without_a_proposal_is_a_decode_step_and_no_verify_step() -> None:
    """An n-gram drafter that proposed twice in four steps: 7 tokens in 4 steps, 3 accepted in 2."""
    found = pooled(request((1, 0, 0), (3, 3, 2), (1, 0, 0), (2, 3, 1)))
    assert (found["decode_steps"], found["verify_steps"]) == (4, 2)
    assert found["acceptance_length"] == 7 / 4
    assert found["acceptance_length_drafted"] == 1 + 3 / 2
    assert found["acceptance_histogram"] == [0, 1, 1, 0]


def test_a_cut_step_counts_what_was_accepted_and_what_was_emitted() -> None:
    """PEERS 4: 3 of 3 accepted, but the limit left room for 2 tokens only."""
    found = pooled(request((4, 3, 3), (2, 3, 3)))
    assert found["truncated_steps"] == 1
    assert found["acceptance_length"] == 6 / 2
    assert found["acceptance_length_drafted"] == 4.0
    assert found["acceptance_histogram"] == [0, 0, 0, 2]


def test_an_accepted_end_of_sequence_has_no_bonus() -> None:
    """Both drafts kept, the second of them the stop token: 2 tokens where a full step has 3."""
    found = pooled(request((2, 2, 2)))
    assert found["truncated_steps"] == 1
    assert found["draft_acceptance_rate"] == 1.0
    assert found["acceptance_length_drafted"] == 3.0


def test_pooled_weighs_by_step_macro_by_request_and_by_conversation() -> None:
    """Lengths 4 (1 step) and 2 (2 steps) in one conversation, 1 (3 steps) in another."""
    records = [request((4, 3, 3)), request((2, 3, 1), (2, 3, 1)), request((1, 3, 0), (1, 3, 0), (1, 3, 0))]
    counts = [request_acceptance(record) for record in records]
    assert figures(counts, 3)["acceptance_length"] == (4 + 4 + 3) / 6
    assert macro(counts, 3)["acceptance_length"] == (4 + 2 + 1) / 3
    assert macro(counts, 3, ["a", "a", "b"])["acceptance_length"] == ((4 + 2) / 2 + 1) / 2
    assert figures(counts, 3)["acceptance_joint"] == [3 / 6, 1 / 6, 1 / 6]
    assert macro(counts, 3)["acceptance_joint"] == [2 / 3, 1 / 3, 1 / 3]
    assert macro(counts, 3, ["a", "a", "b"])["acceptance_joint"] == [1 / 2, 1 / 4, 1 / 4]


def test_macro_leaves_out_requests_in_which_a_figure_is_undefined() -> None:
    """The second request never got to position 2, so position 3 is conditioned on the first alone."""
    counts = [request_acceptance(request((4, 3, 3), (3, 3, 2))), request_acceptance(request((1, 3, 0)))]
    assert macro(counts, 3)["acceptance_conditional"] == [1 / 2, 1.0, 1 / 2]
    single_token = request_acceptance(request())
    assert macro([*counts, single_token], 3)["acceptance_length"] == (7 / 2 + 1) / 2


def test_nothing_drafted_is_null_and_not_zero() -> None:
    found = pooled(request((1, 0, 0), (1, 0, 0)))
    assert found["acceptance_length"] == 1.0
    assert found["acceptance_length_drafted"] is None
    assert found["draft_acceptance_rate"] is None
    assert found["acceptance_joint"] == [None, None, None]
    assert found["acceptance_conditional"] == [None, None, None]
    assert found["acceptance_histogram"] == [0, 0, 0, 0], "a count of none is a count"


def test_drafts_that_all_failed_are_zero_and_not_null() -> None:
    found = pooled(request((1, 3, 0), (1, 3, 0)))
    assert found["acceptance_length_drafted"] == 1.0
    assert found["draft_acceptance_rate"] == 0.0
    assert found["acceptance_joint"] == [0.0, 0.0, 0.0]
    assert found["acceptance_conditional"] == [0.0, None, None]


@pytest.mark.parametrize(
    "record",
    [request(), msgspec.structs.replace(request(), steps=(), output_token_ids=())],
    ids=["one token", "no token"],
)
def test_a_request_that_ends_in_the_prefill_divides_nothing_by_zero(record: RequestRecord) -> None:
    """PEERS 8: an immediate end of sequence must not crash the metrics."""
    found = pooled(record)
    assert (found["decode_steps"], found["acceptance_length"]) == (0, None)
    assert pooled(record, request((2, 3, 1)))["acceptance_length"] == 2.0


def test_no_request_at_all_is_null() -> None:
    for found in (figures([], 3), macro([], 3), macro([], 3, [])):
        assert {name: value for name, value in found.items() if name.startswith(("acceptance_l", "draft"))} == {
            "acceptance_length": None,
            "acceptance_length_drafted": None,
            "draft_acceptance_rate": None,
        }


# ---------------------------------------------------------------- where the counts come from

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
    """PEERS 2: chunks that merge steps under load are no steps."""
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
    found = figures([from_counters(counters, 8)], 3)
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


# ---------------------------------------------------------------- once more, independently


def naive(requests: Sequence[Sequence[Counts]], k: int) -> dict[str, Any]:
    """METRICS' formulas as directly as they can be written; `requests` are decode steps without the prefill."""
    steps = [step for request_steps in requests for step in request_steps]
    verify = [accepted for _, proposed, accepted in steps if proposed]
    accepted_total = 0
    for number in verify:
        accepted_total += number
    proposed_total = sum(proposed for _, proposed, _ in steps)
    joint: list[float | None] = []
    conditional: list[float | None] = []
    for i in range(1, k + 1):
        reached = len([a for a in verify if a >= i])
        tried = len([a for a in verify if a >= i - 1])
        joint.append(reached / len(verify) if verify else None)
        conditional.append(reached / tried if tried else None)
    return {
        "acceptance_length": sum(tokens for tokens, _, _ in steps) / len(steps) if steps else None,
        "acceptance_length_drafted": 1 + accepted_total / len(verify) if verify else None,
        "draft_acceptance_rate": accepted_total / proposed_total if proposed_total else None,
        "acceptance_joint": joint,
        "acceptance_conditional": conditional,
        "acceptance_histogram": [verify.count(j) for j in range(k + 1)],
        "truncated_steps": len([step for step in steps if step[0] != step[2] + 1]),
    }


def naive_mean(rows: Sequence[dict[str, Any]], name: str, k: int) -> Any:
    """Mean of the defined values, by position for a list."""

    def mean(values: list[Any]) -> Any:
        values = [value for value in values if value is not None]
        return sum(values) / len(values) if values else None

    if name in ("acceptance_length", "acceptance_length_drafted", "draft_acceptance_rate"):
        return mean([row[name] for row in rows])
    length = k + 1 if name == "acceptance_histogram" else k
    return [mean([row[name][i] for row in rows]) for i in range(length)]


def assert_close(found: Any, expected: Any, name: str) -> None:
    if isinstance(expected, list):
        assert len(found) == len(expected), name
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other, name)
    elif expected is None or found is None:
        assert found is expected, name
    else:
        assert found == pytest.approx(expected, rel=1e-12), name


def random_request(rng: random.Random, k: int) -> list[Counts]:
    """Up to 6 decode steps; any may lack a proposal, and the last may be cut anywhere."""
    steps: list[Counts] = []
    for _ in range(rng.randrange(7)):
        proposed = rng.choice([0, k, rng.randint(1, k)])
        accepted = rng.randint(0, proposed)
        steps.append((accepted + 1, proposed, accepted))
    if steps and rng.random() < 0.5:
        tokens, proposed, accepted = steps[-1]
        steps[-1] = (rng.randint(1, tokens), proposed, accepted)
    return steps


def test_random_steps_agree_with_a_naive_recomputation() -> None:
    for seed in range(500):
        rng = random.Random(seed)
        k = rng.randint(1, 5)
        requests = [random_request(rng, k) for _ in range(rng.randint(1, 6))]
        conversations = [rng.randrange(3) for _ in requests]
        counts = [request_acceptance(request(*steps)) for steps in requests]

        found = figures(counts, k)
        for name, expected in naive(requests, k).items():
            assert_close(found[name], expected, f"seed {seed} pooled {name}")

        rows = [naive([steps], k) for steps in requests]
        by_conversation = [
            {
                name: naive_mean([row for row, c in zip(rows, conversations, strict=True) if c == chosen], name, k)
                for name in rows[0]
                if name != "truncated_steps"
            }
            for chosen in sorted(set(conversations))
        ]
        means, conversation_means = macro(counts, k), macro(counts, k, conversations)
        assert set(means) == set(conversation_means) == set(by_conversation[0])
        for name in means:
            assert_close(means[name], naive_mean(rows, name, k), f"seed {seed} macro {name}")
            expected = naive_mean(by_conversation, name, k)
            assert_close(conversation_means[name], expected, f"seed {seed} by conversation {name}")


def test_counters_and_steps_of_the_same_request_agree() -> None:
    """What an engine counts of its own steps gives the figures that the steps themselves give."""
    for seed in range(200):
        rng = random.Random(seed)
        k = rng.randint(1, 5)
        steps = random_request(rng, k)
        verify = [(proposed, accepted) for _, proposed, accepted in steps if proposed]
        counters = AcceptanceCounters(
            num_verify_steps=len(verify),
            num_accepted=sum(accepted or 0 for _, accepted in verify),
            num_proposed=sum(proposed or 0 for proposed, _ in verify),
            num_decode_steps=len(steps),
            per_step_accepted=tuple(accepted or 0 for _, accepted in verify),
        )
        num_tokens = sum(tokens for tokens, _, _ in steps)
        merged = [(num_tokens, None, None)] if num_tokens else []
        from_steps = pooled(request(*steps), k=k)
        counted = pooled(request(*merged, prefill=(1, None, None), counters=counters), k=k)
        for name in set(from_steps) - {"truncated_steps"}:
            assert_close(counted[name], from_steps[name], f"seed {seed} {name}")


def test_decode_steps_alone_are_a_source_and_what_is_not_told_is_null() -> None:
    """TensorRT-LLM: 10 tokens, of which the prefill gave one, in 3 decode steps; and 5 in 2."""
    counted = [
        from_counters(AcceptanceCounters(num_verify_steps=None, num_accepted=None, num_decode_steps=steps), tokens)
        for tokens, steps in ((10, 3), (5, 2))
    ]
    pooled = figures(counted, 3)
    assert pooled["acceptance_length"] == (9 + 4) / 5
    assert macro(counted, 3)["acceptance_length"] == (9 / 3 + 4 / 2) / 2
    untold = {
        "verify_steps",
        "proposed",
        "accepted",
        "acceptance_length_drafted",
        "draft_acceptance_rate",
        "acceptance_joint",
        "acceptance_conditional",
        "acceptance_histogram",
    }
    assert {name: pooled[name] for name in untold} == dict.fromkeys(untold)
    assert {name: value for name, value in macro(counted, 3).items() if value is not None} == {"acceptance_length": 2.5}
