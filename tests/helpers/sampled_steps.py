"""Verify steps of sampled requests, with the truth of each. For worker processes, so that two cores share the work."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
import transformers.generation.utils

from tests.helpers.acceptance_truth import StepTruth, verify_step_truths, warper
from tests.helpers.engine_runs import ask, experiment, raw_model, spec_of, started

MAX_NEW_TOKENS = 256


@dataclass(frozen=True, kw_only=True)
class SampledRun:
    """Requests at one setting, one after another until `min_steps` verify steps are in."""

    target: str
    draft: str
    prompts: list[list[int]]
    k: int
    min_steps: int
    seed: int
    """Of the first request; the others count up from it."""
    temperature: float = 1.0
    top_k: int = 0
    is_broken: bool = False
    """Verifies too leniently, see `lenient_verifier`."""


@contextmanager
def lenient_verifier() -> Iterator[None]:
    """Accepts a draft with probability sqrt(min(1, p/q)) in place of min(1, p/q): compares p/q with r * r, not r."""
    verify = transformers.generation.utils._speculative_sampling
    uniform = torch.rand_like

    @functools.wraps(verify)
    def lenient(*args: Any, **kwargs: Any) -> Any:
        with mock.patch.object(torch, "rand_like", lambda like: uniform(like) ** 2):
            return verify(*args, **kwargs)

    with mock.patch.object(transformers.generation.utils, "_speculative_sampling", lenient):
        yield


def sample(run: SampledRun) -> list[StepTruth]:
    """Returns the truth of every verify step of the run, without stop ids, in float32."""
    torch.set_num_threads(1)
    engine = started(experiment(spec_of("draft_model", run.k, run.draft), "float32", run.target))
    target, draft = (raw_model(path, "float32") for path in (run.target, run.draft))
    warp = warper(run.temperature, run.top_k)
    truths: list[StepTruth] = []
    seed = run.seed
    with lenient_verifier() if run.is_broken else nullcontext():
        while len(truths) < run.min_steps:
            prompt = run.prompts[seed % len(run.prompts)]
            result = ask(
                engine,
                prompt,
                max_new_tokens=MAX_NEW_TOKENS,
                temperature=run.temperature,
                top_k=run.top_k,
                seed=seed,
            )
            steps = [(size, proposed or 0, accepted or 0) for size, proposed, accepted in result.steps]
            truths += verify_step_truths(target, draft, prompt, result.token_ids, steps, warp)
            seed += 1
    return truths
