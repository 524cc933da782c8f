"""Sampled speculative decoding against the two models' own distributions.

See `tests.helpers.acceptance_truth` for the statistic, and why the steps that an end of sequence or the token limit
cuts leave it unbiased. A right engine exceeds 2.58 with a chance of 1%; the seeds are fixed, so that it either does
or does not on a given machine.
"""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial

import pytest

from specdec_bench.config import checkpoints
from tests.helpers.acceptance_truth import StepTruth, z_score
from tests.helpers.engine_runs import DRAFT, TARGET, demo_prompts
from tests.helpers.sampled_steps import SampledRun, sample

CRITICAL = 2.58
Futures = dict[str, list[Future[list[StepTruth]]]]


@pytest.fixture(scope="module")
def runs() -> Iterator[Futures]:
    """All runs at once, in two processes."""
    prompts, _ = demo_prompts(16)
    run = partial(SampledRun, target=checkpoints.resolve(TARGET), draft=checkpoints.resolve(DRAFT), prompts=prompts)
    wanted = {
        "plain": [run(k=1, min_steps=5_000, seed=seed) for seed in (0, 10_000)],
        "warped": [run(k=2, min_steps=1_500, seed=20_000, temperature=0.7, top_k=50)],
        "broken": [run(k=1, min_steps=1_500, seed=30_000, is_broken=True)],
    }
    with ProcessPoolExecutor(max_workers=2, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield {name: [pool.submit(sample, run) for run in several] for name, several in wanted.items()}
        pool.shutdown(cancel_futures=True)


def truths_of(runs: Futures, name: str) -> list[StepTruth]:
    return [truth for future in runs[name] for truth in future.result()]


def z_of_acceptance(truths: list[StepTruth]) -> float:
    """Accepted first drafts against the sum of sum(min(p, q)) over the visited contexts."""
    return z_score([truth.is_accepted for truth in truths], [truth.acceptance for truth in truths])


def z_of_output(truths: list[StepTruth]) -> float:
    """First emitted tokens that the draft prefers (q > p) against the target's probability of them."""
    return z_score([truth.is_over_drafted for truth in truths], [truth.over_drafted for truth in truths])


def test_acceptance_at_temperature_1_is_the_sum_of_min_p_q(runs: Futures) -> None:
    truths = truths_of(runs, "plain")
    assert len(truths) >= 10_000
    assert abs(z_of_acceptance(truths)) < CRITICAL


def test_output_at_temperature_1_follows_the_target(runs: Futures) -> None:
    truths = truths_of(runs, "plain")
    assert abs(z_of_output(truths)) < CRITICAL


def test_acceptance_with_temperature_and_top_k_is_the_sum_of_min_p_q(runs: Futures) -> None:
    """Both models sample at temperature 0.7 from their 50 most likely tokens."""
    truths = truths_of(runs, "warped")
    assert len(truths) >= 1_500
    assert abs(z_of_acceptance(truths)) < CRITICAL


def test_output_with_temperature_and_top_k_follows_the_target(runs: Futures) -> None:
    truths = truths_of(runs, "warped")
    assert abs(z_of_output(truths)) < CRITICAL


def test_a_verifier_that_is_too_lenient_is_found_out(runs: Futures) -> None:
    """The same checks, with far fewer steps, on a verifier that accepts with the root of the right probability."""
    truths = truths_of(runs, "broken")
    assert z_of_acceptance(truths) > CRITICAL
    assert z_of_output(truths) > CRITICAL
