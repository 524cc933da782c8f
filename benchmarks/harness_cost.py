"""What the harness adds to assisted generation: `python benchmarks/harness_cost.py`.

Runs the same prompts through transformers' own assisted `generate` with the same K, and through the project's
measuring path (engine, receiver, closed loop, writer), in one process, alternating, and prints the ratio of wall
time per token. Both use the same two loaded models. The bare loop has no wrapper of any kind: it verifies drafts
already in its prefill, so it may need fewer steps; what counts here is time per emitted token.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from scipy import stats

from specdec_bench.archive.writer import RequestWriter
from specdec_bench.checkpoints import chat
from specdec_bench.checkpoints.checks import check_checkpoints
from specdec_bench.checkpoints.prompter import Prompter
from specdec_bench.config.schema.dataset import DemoDataset
from specdec_bench.config.schema.engine import TransformersEngine
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.config.schema.load import ClosedLoad
from specdec_bench.config.schema.model import DraftCheckpoint, ModelConfig
from specdec_bench.config.schema.sampling import SamplingConfig
from specdec_bench.config.schema.spec import DraftModelSpec
from specdec_bench.engines.transformers.adapter import TransformersAdapter
from specdec_bench.records.request import Prompt, RequestRecord
from specdec_bench.runner.cell import load_prompts
from specdec_bench.runner.measure import Measurement


def experiment(options: argparse.Namespace) -> ExperimentConfig:
    """Returns the cell that both sides run: greedy, the tiny pair, demo prompts."""
    return ExperimentConfig(
        engine=TransformersEngine(device="cpu", num_threads=1),
        model=ModelConfig(name="tiny", path="bundled:tiny/target", dtype="float32"),
        dataset=DemoDataset(num_prompts=options.num_prompts),
        spec=DraftModelSpec(draft_length=options.draft_length, draft=DraftCheckpoint(path="bundled:tiny/draft")),
        load=ClosedLoad(num_warmup=0),
        sampling=SamplingConfig(max_new_tokens=options.max_new_tokens),
    )


class Bare:
    """The user's own loop over `generate`."""

    def __init__(self, adapter: TransformersAdapter, prompter: Prompter, config: ExperimentConfig) -> None:
        import torch
        import transformers

        self._torch, self._target, self._draft = torch, adapter._target, adapter._draft
        self._generation = transformers.GenerationConfig(
            max_new_tokens=config.sampling.max_new_tokens,
            eos_token_id=list(prompter.stop_token_ids),
            pad_token_id=0,
            do_sample=False,
        )

    def seconds_per_token(self, prompts: list[list[int]]) -> float:
        """Returns wall time per emitted token over all prompts."""
        hook = self._target.__dict__.pop("_get_candidate_generator")
        try:
            began, emitted = time.perf_counter(), 0
            for prompt in prompts:
                input_ids = self._torch.tensor([prompt])
                output = self._target.generate(
                    input_ids,
                    attention_mask=self._torch.ones_like(input_ids),
                    generation_config=self._generation,
                    assistant_model=self._draft,
                )
                emitted += output.shape[1] - len(prompt)
            return (time.perf_counter() - began) / emitted
        finally:
            self._target._get_candidate_generator = hook


async def measured_seconds_per_token(
    config: ExperimentConfig, prompts: list[Prompt], adapter: TransformersAdapter, prompter: Any, path: Path
) -> float:
    """Returns the same for the measuring path: first request sent to last token received, per emitted token."""
    with RequestWriter(path) as writer:
        await Measurement(config, prompts, adapter, prompter, writer).run()
    records = msgspec.json.Decoder(RequestRecord).decode_lines(path.read_bytes())
    began = min(record.sent_ns or 0 for record in records)
    ended = max(record.steps[-1].received_ns for record in records)
    return (ended - began) / 1e9 / sum(len(record.output_token_ids) for record in records)


async def main() -> None:
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=12, help="alternating repetitions of both sides")
    parser.add_argument("--num-prompts", type=int, default=10)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--draft-length", type=int, default=3)
    options = parser.parse_args()
    config = experiment(options)
    # Both sides hold one turn of each conversation: a bare loop has no chat to keep.
    selected = load_prompts(config).prompts
    prompts = [Prompt(prompt_id=p.prompt_id, category=p.category, turns=p.turns[:1]) for p in selected]
    check_checkpoints(config)
    prompter = chat.create(config)
    token_ids = [list(prompter.encode(prompt.system, prompt.turns, ())) for prompt in prompts]
    adapter = TransformersAdapter(config)
    await adapter.start()
    bare = Bare(adapter, prompter, config)
    loop = asyncio.get_running_loop()
    pairs: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.pairs + 1):
            # In the engine's own thread, where the measured side generates too; who goes first alternates.
            sides: dict[str, float] = {}
            for side in ("bare", "measured") if number % 2 else ("measured", "bare"):
                if side == "bare":
                    sides[side] = await loop.run_in_executor(adapter._thread, bare.seconds_per_token, token_ids)
                else:
                    path = Path(folder) / f"{number}.jsonl"
                    sides[side] = await measured_seconds_per_token(config, prompts, adapter, prompter, path)
            if number:  # the first pair warms both up
                pairs.append((sides["measured"], sides["bare"]))
    await adapter.stop()
    ratios = [measured / plain for measured, plain in pairs]
    interval = stats.bootstrap((np.array(ratios),), np.median, rng=0).confidence_interval
    print(
        json.dumps(
            {
                "bare_ms_per_token": 1e3 * statistics.median(plain for _, plain in pairs),
                "measured_ms_per_token": 1e3 * statistics.median(measured for measured, _ in pairs),
                "ratio_median": statistics.median(ratios),
                "ratio_95": [float(interval.low), float(interval.high)],
                "pairs": len(pairs),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    asyncio.run(main())
