"""Whether metrics stay exact when steps come faster than a client reads: `python benchmarks/step_timing_accuracy.py`.

An engine of known truth runs in another process: the first token 50 ms after a request, then a step every 10 or
50 ms, K=3. Its outputs come over ZeroMQ into vLLM's own output collector, which merges what its reader has not
taken, and three consumers read the same stream:

- bare: a minimal asyncio consumer, which counts tokens and records the time of the first;
- measured: the project's measuring path (vLLM adapter, receiver, closed loop, writer);
- chunks: cumulative outputs, with a time, a length and a slice of the list kept for every chunk, and every chunk
  taken for one step.

Prints one JSON object a point. CPU is that of the consuming process, ZeroMQ's thread included. Needs vLLM installed,
whose engine does not run.
"""

import argparse
import asyncio
import gc
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import zmq
import zmq.asyncio
from consumers import cumulative

from specdec_bench.archive.writer import RequestWriter
from specdec_bench.config.schema.dataset import DemoDataset
from specdec_bench.config.schema.engine import VLLMEngine
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.config.schema.load import ClosedLoad
from specdec_bench.config.schema.model import DraftCheckpoint, ModelConfig
from specdec_bench.config.schema.sampling import SamplingConfig
from specdec_bench.config.schema.spec import DraftModelSpec
from specdec_bench.engines.vllm.adapter import VLLMAdapter, _collector
from specdec_bench.metrics.acceptance import pool, request_acceptance
from specdec_bench.metrics.summary import is_saturated
from specdec_bench.records.manifest import EngineDescription
from specdec_bench.records.request import Prompt, RequestRecord
from specdec_bench.runner.measure import Measurement, no_garbage_collection

DRAFT_LENGTH = 3
RATE = 0.68
"""Each draft is accepted with this probability, given that the one before it was."""
TTFT_S = 0.05
OUTPUTS_AT_ONCE = 128
"""vLLM handles as many before it lets the readers run."""


def accepted_drafts(index: int, output_tokens: int) -> list[int]:
    """Returns what each decode step of a request accepted, the last before it is cut at the limit."""
    coins = random.Random(index)
    accepted: list[int] = []
    emitted = 1
    while emitted < output_tokens:
        number = 0
        while number < DRAFT_LENGTH and coins.random() < RATE:
            number += 1
        accepted.append(number)
        emitted += number + 1
    return accepted


def serve(address: str, step_s: float, output_tokens: int) -> None:
    """Runs the engine until it is killed.

    First tokens come by themselves, all later steps together, as in an engine that steps through its whole batch.
    """
    context = zmq.Context()
    requests, outputs = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    outputs.sndhwm = 0
    requests.connect(f"{address}/requests")
    outputs.connect(f"{address}/outputs")
    encode = msgspec.msgpack.Encoder().encode
    gc.disable()
    first: deque[tuple[float, list[int]]] = deque()
    running: list[tuple[int, Iterator[tuple[int, list[int] | None]]]] = []

    def steps(index: int) -> Iterator[tuple[int, list[int] | None]]:
        """Yields each decode step's number of tokens and, with the last, what was accepted in each."""
        accepted = accepted_drafts(index, output_tokens)
        left = output_tokens - 1
        for position, drafts in enumerate(accepted):
            yield min(drafts + 1, left), accepted if position + 1 == len(accepted) else None
            left -= drafts + 1

    tick = time.perf_counter() + step_s
    while True:
        due = min(tick, first[0][0] if first else tick)
        if requests.poll(int(max(0, (due - time.perf_counter()) * 1e3 - 1))):
            arrived = []
            while requests.poll(0):
                arrived.append(int(requests.recv()))
            first.append((time.perf_counter() + TTFT_S, arrived))
        batch = []
        if tick <= time.perf_counter():
            tick = max(tick + step_s, time.perf_counter())  # an engine that lags does not catch up
            stepped, running = running, []
            for index, to_come in stepped:
                size, accepted = next(to_come)
                batch.append((index, [7] * size, accepted))
                if accepted is None:
                    running.append((index, to_come))
        while first and first[0][0] <= time.perf_counter():
            for index in first.popleft()[1]:
                batch.append((index, [7], None))
                running.append((index, steps(index)))
        if batch:
            outputs.send(encode(batch))


class Client:
    """The part of AsyncLLM that consumers see: `generate`, and a task that fills the collectors."""

    def __init__(self, address: str) -> None:
        from vllm.v1.engine import async_llm

        self.collectors: dict[int, Any] = {}
        self.num_steps = 0
        self.delivered: dict[int, int] = {}
        self._async_llm = async_llm
        context = zmq.asyncio.Context.instance()
        self._requests, self._outputs = context.socket(zmq.PUSH), context.socket(zmq.PULL)
        self._outputs.rcvhwm = 0
        self._requests.bind(f"{address}/requests")
        self._outputs.bind(f"{address}/outputs")
        self._sent = 0
        self._cumulative: dict[int, list[int]] = {}
        self._task = asyncio.create_task(self._take())

    async def generate(self, request_id: str, prompt: Any, sampling_params: Any) -> AsyncIterator[Any]:  # noqa: ARG002
        """Yields outputs as vLLM's does, merged where the caller lags."""
        from vllm.sampling_params import RequestOutputKind

        index = self._sent
        self._sent += 1
        collector = self._async_llm.RequestOutputCollector(sampling_params.output_kind, request_id)
        if sampling_params.output_kind == RequestOutputKind.CUMULATIVE:
            self._cumulative[index] = []
        self.collectors[index] = collector
        await self._requests.send(b"%d" % index)
        finished = False
        while not finished:
            output = collector.get_nowait() or await collector.get()
            finished = output.finished
            yield output

    async def _take(self) -> None:
        from vllm.outputs import CompletionOutput, RequestOutput

        decode = msgspec.msgpack.Decoder(list[tuple[int, list[int], list[int] | None]]).decode
        while True:
            batch = decode(await self._outputs.recv())
            self.num_steps += len(batch)
            for begin in range(0, len(batch), OUTPUTS_AT_ONCE):
                if begin:
                    await asyncio.sleep(0)
                for index, new_token_ids, accepted in batch[begin : begin + OUTPUTS_AT_ONCE]:
                    token_ids = new_token_ids
                    if (earlier := self._cumulative.get(index)) is not None:
                        earlier += token_ids
                        token_ids = earlier
                    is_last = accepted is not None
                    completion = CompletionOutput(
                        0, "", token_ids, None, None, finish_reason="length" if is_last else None
                    )
                    if accepted is not None:
                        completion.spec_decode_metrics = counted(accepted)
                    self.collectors[index].put(RequestOutput("", None, None, None, [completion], is_last))

    def stop(self) -> None:
        """Ends the task and frees the addresses."""
        self._task.cancel()
        self._requests.close(0)
        self._outputs.close(0)


def counted(accepted: list[int]) -> Any:
    """Returns what vLLM counts of a request."""
    return SimpleNamespace(
        histogram=[accepted.count(number) for number in range(DRAFT_LENGTH + 1)],
        num_draft_tokens=DRAFT_LENGTH * len(accepted),
        per_step_accepted=accepted,
        per_step_drafted=[DRAFT_LENGTH] * len(accepted),
    )


class Adapter(VLLMAdapter):
    """vLLM's adapter over that client."""

    def connect(self, client: Client) -> None:
        """Takes the place of a start."""
        self._engine = client
        self._counts_requests = True

    async def reset(self) -> None:
        """Nothing to forget."""

    def describe(self) -> EngineDescription:
        """Returns no limits."""
        return EngineDescription(
            arguments={}, resolved={}, max_seq_len=None, num_accelerators=0, reproducible=True, synthetic="known truth"
        )


def experiment(concurrency: int, output_tokens: int) -> ExperimentConfig:
    """Returns the cell that is measured."""
    return ExperimentConfig(
        engine=VLLMEngine(),
        model=ModelConfig(name="tiny", path="bundled:tiny/target"),
        dataset=DemoDataset(),
        spec=DraftModelSpec(draft_length=DRAFT_LENGTH, draft=DraftCheckpoint(path="bundled:tiny/draft")),
        load=ClosedLoad(num_warmup=0, concurrency=concurrency),
        sampling=SamplingConfig(max_new_tokens=output_tokens, ignore_eos=True),
    )


async def loop(client: Client, concurrency: int, number: int, is_cumulative: bool) -> dict[str, Any]:
    """Returns what the barest consumer, or one that takes chunks for steps, says."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    ttft_ms: list[float] = []
    num_tokens = 0
    lengths: list[list[int]] = []
    kind = RequestOutputKind.CUMULATIVE if is_cumulative else RequestOutputKind.DELTA
    waiting = iter(range(number))

    async def slot() -> None:
        nonlocal num_tokens
        for _ in waiting:
            params = SamplingParams(output_kind=kind, detokenize=False)
            outputs = client.generate(prompt=None, sampling_params=params, request_id="")
            sent = time.perf_counter()
            first = None
            if not is_cumulative:
                async for output in outputs:
                    first = first or time.perf_counter()
                    num_tokens += len(output.outputs[0].token_ids)
            else:
                times, sizes = await cumulative(outputs)
                first = times[0]
                num_tokens += sum(sizes)
                lengths.append(sizes)
            ttft_ms.append(1e3 * ((first or 0) - sent))

    await asyncio.gather(*(slot() for _ in range(concurrency)))
    steps = sum(len(sizes) - 1 for sizes in lengths)
    emitted = sum(sum(sizes[1:]) for sizes in lengths)
    return {
        "ttft_p50_ms": statistics.median(ttft_ms),
        "acceptance_length": emitted / steps if steps else None,
    }


async def measured(client: Client, config: ExperimentConfig, number: int, path: Path) -> dict[str, Any]:
    """Returns what the project says."""
    adapter = Adapter(config)
    adapter.connect(client)
    prompts = [Prompt(prompt_id=str(index), category="none", turns=("",)) for index in range(number)]
    prompter: Any = SimpleNamespace(stop_token_ids=(), encode=lambda *_: (1,))
    with RequestWriter(path) as writer:
        measurement = Measurement(config, prompts, adapter, prompter, writer)
        await measurement.run()
    return {"lateness": measurement.lateness.result()}


def summarized(path: Path) -> dict[str, Any]:
    """Returns metrics of the written records."""
    records = msgspec.json.Decoder(RequestRecord).decode_lines(path.read_bytes())
    pooled = pool([request_acceptance(record) for record in records], DRAFT_LENGTH)
    return {
        "ttft_p50_ms": statistics.median((r.steps[0].received_ns - (r.sent_ns or 0)) / 1e6 for r in records),
        "acceptance_length": pooled.acceptance_length,
        "acceptance_histogram": pooled.acceptance_histogram,
    }


async def point(options: argparse.Namespace, concurrency: int, step_ms: float, folder: Path) -> dict[str, Any]:
    """Returns one point's metrics: medians over the rounds, in each of which every consumer has its turn."""
    from vllm.v1.engine import async_llm

    vllms_own = async_llm.RequestOutputCollector
    number = max(options.requests_per_slot * concurrency, 8)
    config = experiment(concurrency, options.output_tokens)
    steps = [accepted_drafts(index, options.output_tokens) for index in range(number)]
    num_steps = sum(map(len, steps))
    truth = number * (options.output_tokens - 1) / num_steps
    histogram = [sum(accepted.count(j) for accepted in steps) for j in range(DRAFT_LENGTH + 1)]
    sides: dict[str, list[dict[str, Any]]] = {"bare": [], "measured": [], "chunks": []}
    for turn in range(options.rounds):
        for side in list(sides) if turn % 2 else reversed(sides):
            address = f"ipc://{folder}/{side}{turn}-{concurrency}-{step_ms:g}"
            Path(address.removeprefix("ipc://")).mkdir()
            client = Client(address)
            engine = subprocess.Popen(
                [
                    *(sys.executable, __file__, "--serve", address),
                    *("--step-ms", str(step_ms), "--output-tokens", str(options.output_tokens)),
                ]
            )
            await asyncio.sleep(options.start_s)
            path = folder / f"{side}{turn}-{concurrency}-{step_ms:g}.jsonl"
            async_llm.RequestOutputCollector = _collector(vllms_own) if side == "measured" else vllms_own
            gc.collect()
            gc.freeze()
            cpu = time.process_time()
            if side == "measured":
                result = await measured(client, config, number, path)
            else:
                with no_garbage_collection():
                    result = await loop(client, concurrency, number, side == "chunks")
            cpu = time.process_time() - cpu
            engine.kill()
            engine.wait()
            client.stop()
            async_llm.RequestOutputCollector = vllms_own
            if side == "measured":
                result |= summarized(path)
            sides[side].append(result | {"cpu_s_per_1000_steps": 1e3 * cpu / client.num_steps})

    def middle(side: str, figure: str) -> float:
        value: float = statistics.median(result[figure] for result in sides[side])
        return value

    bare, ours, chunks = sides.values()
    return {
        "in_flight": concurrency,
        "step_ms": step_ms,
        "requests": number,
        "acceptance_length": truth,
        "measured_acceptance_is_exact": all(
            result["acceptance_histogram"] == histogram and result["acceptance_length"] == truth for result in ours
        ),
        "chunks_acceptance_length": middle("chunks", "acceptance_length"),
        "ttft_p50_ms": {side: middle(side, "ttft_p50_ms") for side in sides},
        "cpu_s_per_1000_steps": {side: middle(side, "cpu_s_per_1000_steps") for side in sides},
        "measured_to_bare_cpu": statistics.median(
            a["cpu_s_per_1000_steps"] / b["cpu_s_per_1000_steps"] for a, b in zip(ours, bare, strict=True)
        ),
        "measured_to_chunks_cpu": statistics.median(
            a["cpu_s_per_1000_steps"] / b["cpu_s_per_1000_steps"] for a, b in zip(ours, chunks, strict=True)
        ),
        "lateness_p50_ms": statistics.median(result["lateness"].p50_ms for result in ours),
        "lateness_mean_ms": statistics.median(result["lateness"].mean_ms for result in ours),
        "lateness_p99_ms": statistics.median(result["lateness"].p99_ms for result in ours),
        "saturated": [is_saturated(result["lateness"]) for result in ours],
    }


async def main(options: argparse.Namespace) -> None:
    """Prints one JSON object a point."""
    for step_ms in options.steps_ms:
        for concurrency in options.concurrency:
            with tempfile.TemporaryDirectory() as folder:
                print(json.dumps(await point(options, concurrency, step_ms, Path(folder))), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 64, 256, 1024, 2048, 4096])
    parser.add_argument("--steps-ms", type=float, nargs="+", default=[10, 50])
    parser.add_argument("--rounds", type=int, default=3, help="alternating repetitions")
    parser.add_argument("--requests-per-slot", type=int, default=2)
    parser.add_argument("--output-tokens", type=int, default=64)
    parser.add_argument("--start-s", type=float, default=4, help="to wait for the engine's process")
    parser.add_argument("--serve", metavar="ADDRESS", help=argparse.SUPPRESS)
    parser.add_argument("--step-ms", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.step_ms / 1e3, arguments.output_tokens)
    else:
        asyncio.run(main(arguments))
