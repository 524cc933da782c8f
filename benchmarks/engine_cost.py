"""What the harness adds to a serving engine: `python benchmarks/engine_cost.py --concurrency 1 64 256`.

Sends the same requests to one AsyncLLM in three ways, alternating, and prints ratios for each concurrency:

- bare: an asyncio loop over `generate` that only counts tokens;
- measured: the project's measuring path (adapter, receiver, closed loop, writer);
- cumulative: cumulative outputs, with a time, a length and a slice of the list kept for every chunk.

Output tokens/s run from the first request sent to the last token received; CPU is this process's own, the engine
core has another. With `--draft` it also prints the acceptance by vLLM's own totals and by the project's records, of all
decode steps and of the drafted ones, and the acceptance inferred by taking each cumulative output for one step.
"""

import argparse
import asyncio
import gc
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from consumers import cumulative
from scipy import stats

from specdec_bench.archive.writer import RequestWriter
from specdec_bench.checkpoints import chat
from specdec_bench.config.schema.dataset import DemoDataset
from specdec_bench.config.schema.engine import VLLMEngine
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.config.schema.load import ClosedLoad
from specdec_bench.config.schema.model import DraftCheckpoint, ModelConfig
from specdec_bench.config.schema.sampling import SamplingConfig
from specdec_bench.config.schema.spec import DraftModelSpec, NoSpec
from specdec_bench.engines.vllm.adapter import VLLMAdapter, _sampling
from specdec_bench.metrics.acceptance import pool, request_acceptance
from specdec_bench.records.request import GenerationRequest, Prompt, RequestRecord, RequestSampling
from specdec_bench.runner.cell import load_prompts
from specdec_bench.runner.measure import Measurement, no_garbage_collection


def experiment(options: argparse.Namespace, concurrency: int) -> ExperimentConfig:
    """Returns the cell that all sides run: greedy, demo prompts, the tiny models unless another one is asked for."""
    spec = DraftModelSpec(draft=DraftCheckpoint(path="bundled:tiny/draft")) if options.draft else NoSpec()
    return ExperimentConfig(
        engine=VLLMEngine(
            max_num_seqs=max(options.concurrency),
            enforce_eager=options.eager,
            gpu_memory_utilization=options.gpu_memory_utilization,
        ),
        model=ModelConfig(name=options.model, path=options.model, dtype=options.dtype),
        dataset=DemoDataset(),
        spec=spec,
        load=ClosedLoad(num_warmup=0, concurrency=concurrency),
        sampling=SamplingConfig(max_new_tokens=options.max_new_tokens, ignore_eos=True),
    )


def collect_garbage() -> None:
    """Leaves nothing for the collection that opens a measured window: its cost is of the heap, not of the tokens."""
    gc.collect()
    gc.freeze()


class Outcome(NamedTuple):
    """One side of one repetition."""

    output_tps: float
    cpu_s_per_token: float
    """Of this process."""
    acceptance_length: float | None = None
    """Tokens per decode step, however this side tells the steps."""
    engine_acceptance_length: float | None = None
    """The same by vLLM's totals."""
    acceptance_length_drafted: float | None = None
    """1 + accepted drafts per verify step, by the records."""
    engine_acceptance_length_drafted: float | None = None
    """The same by vLLM's totals."""


class Loop:
    """What a user writes: N tasks, each sending one request after another."""

    def __init__(self, adapter: VLLMAdapter, config: ExperimentConfig, is_cumulative: bool) -> None:
        from vllm.sampling_params import RequestOutputKind

        self._engine = adapter._engine
        self._kind = RequestOutputKind.CUMULATIVE if is_cumulative else RequestOutputKind.DELTA
        self._is_cumulative = is_cumulative
        self._config = config
        assert isinstance(config.load, ClosedLoad)
        self._concurrency = config.load.concurrency
        self._emitted = self._chunks = 0

    async def run(self, token_ids: list[list[int]], number: int) -> Outcome:
        """Sends every request once."""
        from vllm.v1.engine import async_llm

        collector = async_llm.RequestOutputCollector
        async_llm.RequestOutputCollector = collector.__mro__[1]  # vLLM's own
        requests = iter(enumerate(token_ids))
        collect_garbage()
        cpu = time.process_time()
        with no_garbage_collection():
            began = time.perf_counter()
            await asyncio.gather(*(self._send(requests, number) for _ in range(self._concurrency)))
            elapsed = time.perf_counter() - began
        cpu = time.process_time() - cpu
        async_llm.RequestOutputCollector = collector
        emitted, chunks = self._emitted, self._chunks
        self._emitted = self._chunks = 0
        decoded, steps = emitted - len(token_ids), chunks - len(token_ids)  # less each one's prefill
        return Outcome(emitted / elapsed, cpu / emitted, decoded / steps if steps > 0 else None)

    async def _send(self, requests: Iterator[tuple[int, list[int]]], number: int) -> None:
        sampling = RequestSampling(max_new_tokens=self._config.sampling.max_new_tokens)
        for index, token_ids in requests:
            request = GenerationRequest(request_id="", prompt_token_ids=tuple(token_ids), sampling=sampling)
            params = _sampling(request.sampling)
            params.output_kind = self._kind
            prompt: Any = {"prompt_token_ids": token_ids}
            outputs = self._engine.generate(prompt, params, f"{self._is_cumulative}/{number}/{index}")
            if not self._is_cumulative:
                async for output in outputs:
                    self._emitted += len(output.outputs[0].token_ids)
                continue
            _, sizes = await cumulative(outputs)
            self._emitted += sum(sizes)
            self._chunks += len(sizes)


class Encoded:
    """A prompter whose prompts are encoded already, as they are for the other sides."""

    def __init__(self, prompter: Any, prompts: list[Prompt]) -> None:
        self.stop_token_ids = prompter.stop_token_ids
        self._token_ids: dict[tuple[str, ...], tuple[int, ...]] = {
            prompt.turns: prompter.encode(prompt.system, prompt.turns, ()) for prompt in prompts
        }

    def encode(self, _: str | None, turns: tuple[str, ...], __: tuple[str, ...]) -> tuple[int, ...]:
        """Returns what was encoded before."""
        return self._token_ids[turns]


async def measured(
    config: ExperimentConfig, prompts: list[Prompt], adapter: VLLMAdapter, prompter: Any, path: Path
) -> Outcome:
    """Returns the same of the measuring path."""
    collect_garbage()
    with RequestWriter(path) as writer:
        measurement = Measurement(config, prompts, adapter, prompter, writer)  # once a run, however long that is
        cpu = time.process_time()
        await measurement.run()
        cpu = time.process_time() - cpu
    records = msgspec.json.Decoder(RequestRecord).decode_lines(path.read_bytes())
    emitted = sum(len(record.output_token_ids) for record in records)
    began = min(record.sent_ns or 0 for record in records)
    ended = max(record.steps[-1].received_ns for record in records)
    counted = pool((request_acceptance(record) for record in records), 3)
    totals = adapter.counters()
    outcome = Outcome(emitted / ((ended - began) / 1e9), cpu / emitted, counted.acceptance_length)
    if totals is None:
        return outcome
    assert totals.num_decode_steps
    assert totals.num_verify_steps
    assert totals.num_accepted is not None
    return outcome._replace(
        engine_acceptance_length=(emitted - len(records)) / totals.num_decode_steps,
        acceptance_length_drafted=counted.acceptance_length_drafted,
        engine_acceptance_length_drafted=1 + totals.num_accepted / totals.num_verify_steps,
    )


def ratio(values: list[float]) -> dict[str, Any]:
    """Returns the median of paired ratios and its 95% bootstrap interval."""
    interval = stats.bootstrap((np.array(values),), np.median, rng=0).confidence_interval
    return {"median": statistics.median(values), "interval_95": [float(interval.low), float(interval.high)]}


async def main() -> None:
    """Prints one JSON object a concurrency."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 64, 256])
    parser.add_argument("--pairs", type=int, nargs="+", default=[10], help="alternating repetitions, one or each's")
    parser.add_argument(
        "--requests", type=int, nargs="+", default=[0], help="of one repetition, one or each's; 0: 10 + 4 x concurrency"
    )
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument(
        "--model", default="bundled:tiny/target", help="as model.path, such as fetched:smollm2_135m_q4_1"
    )
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--eager", action="store_true")
    parser.add_argument(
        "--draft", action="store_true", help="with the tiny draft model, K=3, instead of plain decoding"
    )
    parser.add_argument("--gpu-memory-utilization", type=float)
    options = parser.parse_args()
    for name in ("pairs", "requests"):
        values = getattr(options, name)
        if len(values) not in (1, len(options.concurrency)):
            parser.error(f"--{name} takes one number, or {len(options.concurrency)}, one a concurrency: {values}")
        setattr(options, name, values if len(values) > 1 else values * len(options.concurrency))
    config = experiment(options, max(options.concurrency))
    prompter = chat.create(config)
    demo = [Prompt(prompt_id=p.prompt_id, category=p.category, turns=p.turns[:1]) for p in load_prompts(config).prompts]
    adapter = VLLMAdapter(config)
    await adapter.start()
    for concurrency, pairs, requests in zip(options.concurrency, options.pairs, options.requests, strict=True):
        config = experiment(options, concurrency)
        number = requests or 10 + 4 * concurrency
        prompts = [
            Prompt(prompt_id=f"{p.prompt_id}-{i}", category=p.category, turns=p.turns)
            for i, p in enumerate(itertools.islice(itertools.cycle(demo), number))
        ]
        encoded = Encoded(prompter, prompts)
        token_ids = [list(encoded.encode(None, prompt.turns, ())) for prompt in prompts]
        loops = {name: Loop(adapter, config, name == "cumulative") for name in ("bare", "cumulative")}
        results: dict[str, list[Outcome]] = {"bare": [], "measured": [], "cumulative": []}
        with tempfile.TemporaryDirectory() as folder:
            for repetition in range(pairs + 1):
                order = list(results) if repetition % 2 else list(reversed(results))
                for side in order:
                    if side == "measured":
                        path = Path(folder) / f"{repetition}.jsonl"
                        result = await measured(config, prompts, adapter, encoded, path)
                    else:
                        result = await loops[side].run(token_ids, repetition)
                    if repetition:  # the first warms all of them up
                        results[side].append(result)
        bare, harness, cumulative = results.values()

        def ratios(figure: str, of: list[Outcome], to: list[Outcome]) -> dict[str, Any]:
            return ratio([getattr(a, figure) / getattr(b, figure) for a, b in zip(of, to, strict=True)])

        row = {
            "concurrency": concurrency,
            "requests": number,
            "pairs": pairs,
            "bare_output_tps": statistics.median(side.output_tps for side in bare),
            "measured_to_bare_output_tps": ratios("output_tps", harness, bare),
            "bare_cpu_us_per_token": 1e6 * statistics.median(side.cpu_s_per_token for side in bare),
            "measured_to_bare_cpu": ratios("cpu_s_per_token", harness, bare),
            "measured_to_cumulative_cpu": ratios("cpu_s_per_token", harness, cumulative),
        }
        if options.draft:
            row |= {
                "acceptance_length_by_engine_totals": harness[-1].engine_acceptance_length,
                "acceptance_length_measured": harness[-1].acceptance_length,
                "acceptance_length_drafted_by_engine_totals": harness[-1].engine_acceptance_length_drafted,
                "acceptance_length_drafted_measured": harness[-1].acceptance_length_drafted,
                "acceptance_length_inferred_from_chunks": statistics.median(
                    side.acceptance_length for side in cumulative if side.acceptance_length is not None
                ),
            }
        print(json.dumps(row), flush=True)
    await adapter.stop()


if __name__ == "__main__":
    asyncio.run(main())
