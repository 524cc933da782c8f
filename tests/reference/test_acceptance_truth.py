"""The yardsticks themselves, on cases whose truth is known without them."""

import math
import random

import pytest
import torch

from tests.helpers.acceptance_truth import StepTruth, verify_step_truths, warper, z_score


class Fixed:
    """A model whose next-token distribution depends on the last token alone."""

    def __init__(self, table: list[list[float]]) -> None:
        self._logits = torch.tensor(table).log()

    def __call__(self, input_ids: torch.Tensor, use_cache: bool) -> "Fixed":
        self.logits = self._logits[input_ids]
        return self


def test_z_score_by_hand() -> None:
    """3 heads of 4 fair coins: (3 - 2) / sqrt(4 x 1/4)."""
    assert z_score([True, True, False, True], [0.5] * 4) == 1.0
    assert z_score([False, False], [0.1, 0.2]) == pytest.approx(-0.3 / math.sqrt(0.09 + 0.16))


def test_z_score_of_coins_of_known_truth_is_standard_normal() -> None:
    """Over 400 repetitions with changing probabilities: mean 0, variance 1, and 1% beyond 2.58."""
    rng = random.Random(0)
    scores = []
    for _ in range(400):
        probabilities = [rng.random() for _ in range(300)]
        scores.append(z_score([rng.random() < p for p in probabilities], probabilities))
    assert abs(sum(scores)) / math.sqrt(400) < 2.58
    assert 0.8 < sum(z * z for z in scores) / 400 < 1.2
    assert sum(abs(z) > 2.58 for z in scores) <= 12


def test_z_score_finds_a_bias_of_two_percent_in_ten_thousand_coins() -> None:
    rng = random.Random(1)
    assert z_score([rng.random() < 0.72 for _ in range(10_000)], [0.7] * 10_000) > 2.58
    assert abs(z_score([rng.random() < 0.7 for _ in range(10_000)], [0.7] * 10_000)) < 2.58


def test_the_truth_of_each_verify_step_by_hand() -> None:
    """Two tokens. After 0 the target says (0.9, 0.1) and the draft (0.6, 0.4); after 1 (0.2, 0.8) and (0.5, 0.5)."""
    target, draft = Fixed([[0.9, 0.1], [0.2, 0.8]]), Fixed([[0.6, 0.4], [0.5, 0.5]])
    steps = [(1, 0, 0), (2, 1, 1), (1, 1, 0), (1, 0, 0)]
    found = verify_step_truths(target, draft, [0, 1], [1, 0, 0, 1, 0], steps, warper(1.0))
    assert [(t.is_accepted, t.is_over_drafted) for t in found] == [(True, True), (False, True)]
    # The first verify step follows the prefill's token 1, the second follows token 0.
    assert [t.acceptance for t in found] == pytest.approx([0.2 + 0.5, 0.6 + 0.1])
    assert [t.over_drafted for t in found] == pytest.approx([0.2, 0.1])
    assert isinstance(found[0], StepTruth)


def test_rejection_sampling_of_known_distributions_passes() -> None:
    """Leviathan's algorithm 1 by hand on p = (0.5, 0.3, 0.2), q = (0.2, 0.3, 0.5): a = 0.7, and 2 is over-drafted."""
    rng = random.Random(2)
    p, q = (0.5, 0.3, 0.2), (0.2, 0.3, 0.5)
    accepted, emitted = [], []
    for _ in range(10_000):
        drafted = rng.choices(range(3), q)[0]
        accepted.append(rng.random() <= p[drafted] / q[drafted])
        residual = [max(p_x - q_x, 0) for p_x, q_x in zip(p, q, strict=True)]
        emitted.append(drafted if accepted[-1] else rng.choices(range(3), residual)[0])
    assert abs(z_score(accepted, [0.7] * 10_000)) < 2.58
    assert abs(z_score([token == 2 for token in emitted], [0.2] * 10_000)) < 2.58


def test_warper_divides_by_the_temperature_and_keeps_the_top_k() -> None:
    warped = warper(0.5, top_k=2)(torch.tensor([[1.0, 3.0, 2.0, 0.0]]))
    assert warped.tolist() == [[-math.inf, 6.0, 4.0, -math.inf]]
