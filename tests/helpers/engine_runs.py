"""Drives the transformers engine directly: one engine, one request, one result of plain numbers."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from specdec_bench.config import checkpoints
from specdec_bench.config.schema.engine import TransformersEngine
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.config.schema.model import DraftCheckpoint, ModelConfig
from specdec_bench.config.schema.spec import DraftModelSpec, NgramSpec, NoSpec, SpecConfig
from specdec_bench.engines.base import Engine, create
from specdec_bench.records.request import GenerationRequest, RequestSampling
from specdec_bench.runner.messages import Counts
from specdec_bench.runner.receive import receive
from tests.helpers import build

TARGET = "bundled:tiny/target"
DRAFT = "bundled:tiny/draft"
HEAD = "bundled:tiny/eagle3"
NGRAM_MAX = 3


@dataclass(frozen=True, kw_only=True)
class Result:
    """A finished request, without its times."""

    token_ids: list[int]
    steps: list[tuple[int, int | None, int | None]]
    """(tokens, proposed, accepted), the prefill first."""
    finish_reason: str | None

    def histogram(self, k: int) -> list[int]:
        """Returns the number of verify steps that accepted exactly j drafts, for j = 0..k."""
        accepted = [accepted for _, proposed, accepted in self.steps if proposed]
        return [accepted.count(j) for j in range(k + 1)]


def spec_of(method: str, k: int, draft: str = DRAFT) -> SpecConfig:
    """Returns the method's configuration with draft length `k`."""
    if method == "none":
        return NoSpec()
    if method == "ngram":
        return NgramSpec(draft_length=k, ngram_max=NGRAM_MAX)
    return DraftModelSpec(draft_length=k, draft=DraftCheckpoint(path=draft))


def experiment(
    spec: SpecConfig, dtype: str = "float64", target: str = TARGET, extra_args: dict[str, Any] | None = None
) -> ExperimentConfig:
    """Returns one cell on the CPU."""
    return build.experiment(
        engine=TransformersEngine(device="cpu", num_threads=1, extra_args=extra_args or {}),
        model=ModelConfig(name="tiny", path=target, dtype=dtype),
        spec=spec,
    )


def started(config: ExperimentConfig) -> Engine:
    """Returns the cell's engine, loaded."""
    engine = create(config)
    asyncio.run(engine.start())
    return engine


class EnginePool:
    """The engines of one test module, each loaded once."""

    def __init__(self) -> None:
        self._engines: dict[tuple[str, int, str, str, str], Engine] = {}
        self._results: dict[tuple[Engine, tuple[int, ...], str], Result] = {}

    def get(self, method: str, k: int = 0, dtype: str = "float64", target: str = TARGET, draft: str = DRAFT) -> Engine:
        """Returns the engine of that cell."""
        key = (method, k, dtype, target, draft)
        if key not in self._engines:
            self._engines[key] = started(experiment(spec_of(method, k, draft), dtype, target))
        return self._engines[key]

    def remembered(self, engine: Engine, prompt: Sequence[int], **sampling: Any) -> Result:
        """Returns what the engine made of that request when it was first asked."""
        key = (engine, tuple(prompt), repr(sorted(sampling.items())))
        if key not in self._results:
            self._results[key] = ask(engine, prompt, **sampling)
        return self._results[key]

    def stop(self) -> None:
        """Stops them all."""
        for engine in self._engines.values():
            asyncio.run(engine.stop())


def ask(engine: Engine, prompt: Sequence[int], **sampling: Any) -> Result:
    """Returns what the engine makes of one request; the keywords are those of RequestSampling."""
    request = GenerationRequest(request_id="r", prompt_token_ids=tuple(prompt), sampling=RequestSampling(**sampling))
    received, cancellation = asyncio.run(receive(engine, request, Counts()))
    assert cancellation is None
    assert received.error is None, received.error
    return Result(
        token_ids=received.token_ids,
        steps=list(zip(received.sizes, received.proposed, received.accepted, strict=True)),
        finish_reason=received.finish_reason,
    )


def demo_prompts(number: int) -> tuple[list[list[int]], tuple[int, ...]]:
    """Returns that many first turns, spread evenly over the demo prompts, and the ids that end a reply."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoints.resolve(TARGET))
    lines = (checkpoints.ASSETS / "demo.jsonl").read_text(encoding="utf-8").splitlines()
    turns = [json.loads(line)["turns"][0] for line in lines if line.strip()]
    assert len(turns) >= number
    prompts = []
    for i in range(number):
        messages = [{"role": "user", "content": turns[i * len(turns) // number]}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        prompts.append(tokenizer(text, add_special_tokens=False)["input_ids"])
    return prompts, (tokenizer.eos_token_id,)


def raw_model(path: str, dtype: str) -> Any:
    """Returns the checkpoint as transformers loads it, without the engine."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(checkpoints.resolve(path), dtype=getattr(torch, dtype)).eval()
