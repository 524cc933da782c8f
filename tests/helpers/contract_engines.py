"""The engines that the contract is held against. A further engine is a further entry of CASES.

TensorRT-LLM cannot be installed here: its adapter runs on the stand-in (tests/stand_ins), which shows that the adapter
holds the contract where TensorRT-LLM behaves as it was read to.
"""

import asyncio
import contextlib
import gc
import itertools
import warnings
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar
from unittest import mock

import pytest

from specdec_bench.config.schema.engine import (
    EngineConfig,
    SGLangEngine,
    SyntheticEngine,
    TensorRTLLMEngine,
    TransformersEngine,
    VLLMEngine,
)
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.config.schema.model import ModelConfig
from specdec_bench.config.support import ENGINES
from specdec_bench.engines.base import Engine, create
from specdec_bench.records.request import GenerationRequest, RequestSampling
from specdec_bench.runner.messages import Counts
from specdec_bench.runner.receive import Received, receive
from tests.helpers import build
from tests.helpers.engine_runs import DRAFT, TARGET, demo_prompts, spec_of
from tests.stand_ins import importing

K = 3
Answer = TypeVar("Answer")
Failing = Callable[[Any, str, Counts], AbstractContextManager[None]]


@contextlib.contextmanager
def _synthetic_failure(engine: Any, request_id: str, live: Counts) -> Iterator[None]:
    """Every request fails after its first decode step."""
    with mock.patch.object(engine._config, "fail_every", 1):
        yield


@contextlib.contextmanager
def _failing_forward(engine: Any, request_id: str, live: Counts) -> Iterator[None]:
    """The target's fifth forward pass raises."""
    passes = itertools.count(1)

    def fail(*_: Any) -> None:
        if next(passes) == 5:
            raise RuntimeError("no memory left")

    hook = engine._target.register_forward_pre_hook(fail)
    yield
    hook.remove()


def _given_up(abort: Callable[[Any, str], Any]) -> Failing:
    """Returns a failure: the engine itself gives the request up once tokens of it have come."""

    @contextlib.contextmanager
    def failure(engine: Any, request_id: str, live: Counts) -> Iterator[None]:
        async def give_up() -> None:
            while not live.output_tokens:
                await asyncio.sleep(0.01)
            answer = abort(engine, request_id)
            if answer is not None:
                await answer

        task = asyncio.get_running_loop().create_task(give_up())
        yield
        assert task.done()
        task.result()

    return failure


@dataclass(frozen=True, kw_only=True)
class Case:
    """One engine with one method."""

    engine: EngineConfig
    method: str
    failing: Failing
    """Within it the request of that id, whose counts are given, fails after its first tokens."""
    dtype: str = "float32"
    tells_drafts: bool = True
    """Whether the engine tells how many drafts it accepted; where it does not, they are null."""

    @property
    def has_model(self) -> bool:
        """Whether stops change where a reply ends and not what it says: synthetic draws anew."""
        return not isinstance(self.engine, SyntheticEngine)

    def config(self) -> ExperimentConfig:
        return build.experiment(
            engine=self.engine,
            model=ModelConfig(name="tiny", path=TARGET, dtype=self.dtype, max_seq_len=2048),
            spec=spec_of(self.method, K, DRAFT),
        )


def _sglang() -> SGLangEngine:
    """Returns the settings that test_sglang.py explains."""
    return SGLangEngine(
        max_num_seqs=8,
        enforce_eager=True,
        attention_backend="torch_native",
        extra_args={
            "prefill_attention_backend": "intel_amx",
            "decode_attention_backend": "intel_amx",
            "device": "cpu",
            "max_total_tokens": 16384,
        },
    )


CASES = [
    *(
        pytest.param(
            Case(
                engine=SyntheticEngine(ttft_ms=1, step_time_ms=1, stop_probability=0.1),
                method=method,
                failing=_synthetic_failure,
            ),
            id=f"synthetic-{method}",
        )
        for method in ("none", "draft_model")
    ),
    *(
        pytest.param(
            Case(engine=TransformersEngine(device="cpu", num_threads=1), method=method, failing=_failing_forward),
            id=f"transformers-{method}",
        )
        for method in ("none", "ngram", "draft_model")
    ),
    *(
        pytest.param(
            Case(
                engine=VLLMEngine(max_num_seqs=8, enforce_eager=True),
                method=method,
                failing=_given_up(lambda engine, request_id: engine._engine.abort(request_id)),
            ),
            id=f"vllm-{method}",
        )
        for method in ("none", "draft_model")
    ),
    *(
        pytest.param(
            Case(
                engine=_sglang(),
                method=method,
                failing=_given_up(lambda engine, rid: engine._engine.tokenizer_manager.abort_request(rid)),
            ),
            id=f"sglang-{method}",
            marks=pytest.mark.sglang,
        )
        for method in ("none", "ngram", "draft_model")
    ),
    *(
        pytest.param(
            Case(
                engine=TensorRTLLMEngine(max_num_seqs=8),
                method=method,
                failing=_given_up(lambda engine, _: setattr(_in_flight(engine), "is_aborted", True)),
                tells_drafts=method == "none",
            ),
            id=f"tensorrt_llm-{method}",
        )
        for method in ("none", "ngram", "draft_model")
    ),
]


def _in_flight(engine: Any) -> Any:
    """Returns the oldest request that the stand-in of TensorRT-LLM is at."""
    return next(result for result in engine._engine.results if not (result.finished or result.is_aborted))


class LiveEngine:
    """A started engine on an event loop of its own, driven as the runner drives it."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.prompts = [tuple(prompt) for prompt in demo_prompts(8)[0]]
        self.end_of_sequence = demo_prompts(1)[1]
        self.engine: Engine = create(case.config())
        self._runner = asyncio.Runner()
        self._ids = itertools.count()
        self._stand_in = contextlib.ExitStack()
        if isinstance(case.engine, TensorRTLLMEngine):
            self._stand_in.enter_context(importing.tensorrt_llm())
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # the engines' own packages warn while they are imported
            self.run(self.engine.start())

    def run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        return self._runner.run(work)

    def stop(self) -> None:
        self.run(self.engine.stop())
        self._runner.close()
        del self.engine
        self._stand_in.close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # vLLM leaves its sockets to the garbage collector
            gc.collect()

    @property
    def max_concurrency(self) -> int:
        return ENGINES[self.case.engine.name].max_concurrency or 8

    def request(self, prompt: Sequence[int], **sampling: Any) -> GenerationRequest:
        """Returns a request with an id of its own; the keywords are those of RequestSampling."""
        return GenerationRequest(
            request_id=f"r{next(self._ids)}",
            prompt_token_ids=tuple(prompt),
            sampling=RequestSampling(**{"max_new_tokens": 24} | sampling),
        )

    async def receive(self, request: GenerationRequest, live: Counts | None = None) -> Received:
        received, cancellation = await receive(self.engine, request, live or Counts())
        assert cancellation is None
        return received

    def ask(self, prompt: Sequence[int], **sampling: Any) -> Received:
        """Returns what came of a request that has to succeed."""
        received = self.run(self.receive(self.request(prompt, **sampling)))
        assert received.error is None, received.error
        return received


def steps(received: Received) -> list[tuple[int, int | None, int | None]]:
    """Returns (tokens, proposed, accepted) of every step: a result without its times."""
    return list(zip(received.sizes, received.proposed, received.accepted, strict=True))
