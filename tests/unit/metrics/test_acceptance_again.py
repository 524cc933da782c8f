"""Acceptance of random steps, computed once more as directly as the formulas can be written."""

import random
from collections.abc import Sequence
from typing import Any

import pytest

from specdec_bench.metrics.acceptance import from_counters, request_acceptance
from specdec_bench.records.request import AcceptanceCounters
from tests.helpers.step_counts import Counts, macro, pool, pooled, request


def naive(requests: Sequence[Sequence[Counts]], k: int) -> dict[str, Any]:
    """The formulas as directly as they can be written; `requests` are decode steps without the prefill."""
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

        found = pool(counts, k)
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
    """What an engine counts of its own steps gives the metrics that the steps themselves give."""
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
    pooled = pool(counted, 3)
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
