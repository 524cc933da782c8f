"""Comparisons of two cells whose runs are drawn at random, judged by the whole way of `compare`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from specdec_bench.archive.layout import RunDirectory
from specdec_bench.compare import comparison
from specdec_bench.compare.effects import HEADLINE
from specdec_bench.compare.headline import RATIOS
from specdec_bench.compare.pairing import Archive, ArchivedCell
from specdec_bench.compare.sides import ComparedRun, RequestTerms
from specdec_bench.compare.speedup import RunTimes
from specdec_bench.metrics.acceptance import RequestAcceptance
from specdec_bench.metrics.summary import summarize
from specdec_bench.metrics.timing import RequestTimes
from tests.helpers.archive_samples import CONFIG, make_manifest

NUM_DRAFTS, NUM_STEPS = 3, 30


class Totals(RunTimes):
    """Times of a run of which only the total is known."""

    def __init__(self, tokens: int, seconds: float) -> None:
        super().__init__()
        self._totals = (tokens, seconds)

    def totals(self) -> tuple[int, float]:
        return self._totals


def draw_run(random: np.random.Generator, prompts: Mapping[str, Any], *, slower: float, fewer: float) -> ComparedRun:
    """Returns a run: prompts differ, requests vary, and so does the machine's speed from run to run."""
    speed = slower * random.lognormal(0, 0.03)
    keys, terms, ttft_ms, tokens, seconds = [], [], [], 0, 0.0
    for number, (weight, rate) in enumerate(zip(prompts["weights"], prompts["rates"], strict=True)):
        accepted = int(random.binomial(NUM_DRAFTS * NUM_STEPS, rate * fewer))
        tpot_ms = 10 * speed * weight * random.lognormal(0, 0.1)
        ttft = 50 * speed * weight * random.lognormal(0, 0.1)
        later = accepted + NUM_STEPS
        counts = RequestAcceptance(
            output_tokens=later + 1,
            decode_steps=NUM_STEPS,
            verify_steps=NUM_STEPS,
            proposed=NUM_DRAFTS * NUM_STEPS,
            accepted=accepted,
        )
        times = RequestTimes(
            ttft_ms=ttft, tpot_ms=tpot_ms, e2e_ms=ttft + later * tpot_ms, later_tokens=later, decode_ms=later * tpot_ms
        )
        keys.append((f"p{number}", 0, 0))
        terms.append([terms_of(counts, times) for terms_of in RATIOS.values()])
        ttft_ms.append(ttft)
        tokens, seconds = tokens + later + 1, seconds + times.e2e_ms / 1000
    manifest = make_manifest(status="finished")
    return ComparedRun(
        run=RunDirectory(Path("run")),
        manifest=manifest,
        summary=summarize([], manifest),
        requests=RequestTerms(keys=keys, terms=np.array(terms), ttft_ms=np.array(ttft_ms)),
        times=Totals(tokens, seconds),
        outputs=dict.fromkeys(keys, ((1,), (2,))),
    )


def judge(
    random: np.random.Generator, *, num_runs: int, num_prompts: int = 30, slower: float = 1.0, fewer: float = 1.0
) -> comparison.Comparison:
    """Returns a comparison of two cells. The other one is that much slower and accepts that much less."""
    prompts = {"weights": random.lognormal(0, 0.3, num_prompts), "rates": random.beta(8, 4, num_prompts)}
    sides = [
        [draw_run(random, prompts, slower=s, fewer=f) for _ in range(num_runs)]
        for s, f in ((1.0, 1.0), (slower, fewer))
    ]
    archives = [
        Archive(
            path=name,
            cells=[
                ArchivedCell(fields=CONFIG, runs=[run.run for run in runs], manifests=[run.manifest for run in runs])
            ],
            unfinished=[],
        )
        for name, runs in zip("AB", sides, strict=True)
    ]
    with mock.patch.object(comparison, "read_run", side_effect=[run for side in sides for run in side]):
        return comparison.compare(archives, HEADLINE)
