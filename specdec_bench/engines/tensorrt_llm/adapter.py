"""TensorRT-LLM's LLM API in this process, its executor in processes of TensorRT-LLM's own.

Where the counts come from. For each request TensorRT-LLM reports `decoding_iter` and `avg_decoded_tokens_per_iter`,
which is the tokens so far / decoding_iter (cpp/include/tensorrt_llm/batch_manager/llmRequest.h,
getAvgDecodedTokensPerIter, at 00e9b8a773a690c1182ba23717e6c660a2246b70). On the PyTorch backend
TorchSampler.update_requests adds one to the count where the last piece of a prompt gives the first token, and one in
every step after it, however many tokens the step gives (tensorrt_llm/_torch/pyexecutor/sampler.py at
00026bd121addd9ee5650a7da9fee6b57db79a6f); the samplers of its one-model methods do likewise, and
PyExecutor._handle_responses hands the count on with each response. So `decoding_iter` counts the prefill once and
every decode step: num_decode_steps = decoding_iter - 1. A paused and recomputed request would count one more prefill;
the scheduler's default policy (GUARANTEED_NO_EVICT) pauses none.

TensorRT-LLM does not report how many steps had drafts, nor how many drafts it proposed and accepted: its counters for
them are 0 on the PyTorch backend. Those metrics stay null.
"""

import importlib
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

from specdec_bench.config.schema.engine import LLMAPIEngine, TensorRTLLMEngine
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.config.schema.spec import NoSpec
from specdec_bench.engines.readback import differences
from specdec_bench.engines.settings import settings_of
from specdec_bench.engines.tensorrt_llm import arguments as tensorrt_llm_arguments
from specdec_bench.engines.tensorrt_llm.release import LLM_ARGS, find, find_classes, read, unavailable
from specdec_bench.errors import (
    ConfigError,
    EngineDiedError,
    EngineError,
    EngineUnavailableError,
    SpecDecBenchError,
    first_line,
    named,
)
from specdec_bench.records.manifest import EngineDescription
from specdec_bench.records.request import AcceptanceCounters, Chunk, FinishReason, GenerationRequest, RequestSampling

logger = logging.getLogger(__name__)


def create(config: ExperimentConfig) -> "TensorRTLLMAdapter":
    """Returns the adapter, not yet started."""
    return TensorRTLLMAdapter(config)


class TensorRTLLMAdapter:
    """One tensorrt_llm.LLM. TensorRT-LLM's executor counts each request's decode steps."""

    LLM = "tensorrt_llm.LLM"
    LLM_ARGS = LLM_ARGS

    def __init__(self, config: ExperimentConfig) -> None:
        assert isinstance(config.engine, LLMAPIEngine)
        self._config = config
        self._engine_config = config.engine
        self._is_plain = isinstance(config.spec, NoSpec)
        self._engine: Any = None
        self._release = ""
        self._arguments: dict[str, Any] = {}

    def _import(self) -> tuple[Any, Any, Any]:
        """Returns TensorRT-LLM, its class for this engine, and the class of that class's arguments.

        Raises:
            EngineUnavailableError: it is missing, or too old.
        """
        try:
            return importlib.import_module("tensorrt_llm"), find(self.LLM), find(self.LLM_ARGS)
        except (ImportError, AttributeError) as error:
            raise unavailable(self._engine_config.name, str(error)) from None

    async def start(self) -> None:
        """Loads target and draft.

        Raises:
            ConfigError: an argument is unknown or set twice.
            EngineUnavailableError: TensorRT-LLM is missing, or the installed release lacks something needed.
            EngineError: it does not start.
        """
        package, llm, llm_args = self._import()
        self._release = package.__version__
        classes = find_classes()
        release = read(self._release, llm_args)
        arguments = tensorrt_llm_arguments.engine_arguments(self._config, release)
        arguments |= tensorrt_llm_arguments.EXTRA_ARGUMENTS.check(
            self._engine_config.extra_args, release.known, release.version
        )
        self._arguments = arguments
        if arguments.get("disable_overlap_scheduler") and self._engine_config.disable_overlap_scheduler is None:
            logger.warning(
                "spec=%s runs without the overlap scheduler; engine.disable_overlap_scheduler=true takes it from the "
                "baseline too",
                self._config.spec.name,
            )
        try:
            passed = tensorrt_llm_arguments.build_objects(arguments, lambda name, given: classes[name](**given))
            self._check_backend(passed.get("speculative_config"))
            self._engine = llm(**passed)
        except SpecDecBenchError:
            raise
        except Exception as error:  # TensorRT-LLM may raise anything; the log has its workers' errors
            raise EngineError(f"TensorRT-LLM {self._release} did not start: {named(error)}") from error

    def _check_backend(self, decoding: Any) -> None:
        """Refuses a method that the release supports only on another backend.

        Raises:
            EngineUnavailableError: naming both.
        """
        backend = tensorrt_llm_arguments.BACKENDS[self._engine_config.name]
        if decoding is not None and not decoding.supports_backend(backend):
            raise EngineUnavailableError(
                f"spec={self._config.spec.name}: TensorRT-LLM {self._release} has no {type(decoding).__name__} for "
                f"engine={self._engine_config.name}"
            )

    async def reset(self) -> None:
        """Clears reusable blocks by restarting, if reuse is on: TensorRT-LLM empties them only with the engine."""
        if self._engine_config.enable_prefix_caching:
            await self.stop()
            await self.start()

    def counters(self) -> AcceptanceCounters | None:
        """Returns None: every request reports its own counts."""
        return None

    def read_back(self, sampling: RequestSampling) -> Mapping[str, Any]:
        """Returns the sampling as TensorRT-LLM's SamplingParams hold it.

        Raises:
            ConfigError: TensorRT-LLM refuses a value.
            EngineUnavailableError: TensorRT-LLM is missing.
        """
        self._import()
        try:
            made = _sampling(sampling)
        except ValueError as error:
            raise ConfigError(f"sampling: TensorRT-LLM refuses it: {first_line(error)}") from None
        is_greedy = sampling.temperature == 0 and made.top_k == 1
        stops = () if made.ignore_eos else (made.end_id, *(made.stop_token_ids or ()))
        return {
            "max_new_tokens": made.max_tokens,
            "min_new_tokens": made.min_tokens or 0,
            "temperature": 0.0 if is_greedy else made.temperature,
            "top_p": made.top_p,
            "top_k": made.top_k or 0,
            "seed": made.seed,
            "stop_token_ids": stops,
        }

    def describe(self) -> EngineDescription:
        """Returns the arguments that were passed and TensorRT-LLM's resolved ones."""
        resolved = self._engine.args
        plain = settings_of(resolved)
        return EngineDescription(
            arguments=self._arguments,
            resolved={"tensorrt_llm": self._release, **plain},
            max_seq_len=self._config.model.max_seq_len or resolved.max_seq_len,
            num_accelerators=self._num_accelerators(),
            reproducible=False,
            synthetic=None,
            differences=differences(tensorrt_llm_arguments.asked_and_resolved(self._arguments, plain)),
        )

    def _num_accelerators(self) -> int:
        engine = self._engine_config
        assert isinstance(engine, TensorRTLLMEngine)
        return engine.tensor_parallel_size * engine.pipeline_parallel_size

    async def stop(self) -> None:
        """Ends TensorRT-LLM's processes."""
        self._engine.shutdown()

    async def stream(self, request: GenerationRequest) -> AsyncIterator[Chunk]:
        """Yields one chunk per response; a chunk that holds a single engine step says so.

        Raises:
            EngineDiedError: TensorRT-LLM has shut down.
            EngineError: the request failed.
        """
        from tensorrt_llm.llmapi import RequestError

        try:
            result = self._engine.generate_async(
                list(request.prompt_token_ids), sampling_params=_sampling(request.sampling), streaming=True
            )
        except Exception as error:  # whatever it does not take
            raise EngineError(f"TensorRT-LLM: {named(error)}") from error
        is_over = False
        num_read = num_steps = 0  # tokens and engine steps that were yielded
        try:
            # Every round yields the same object, grown by one response.
            async for _ in result:
                completion = result.outputs[0]
                token_ids = completion.token_ids[num_read:]  # a copy: the list keeps growing
                is_over = result.finished
                if not token_ids and not is_over:
                    continue
                num_read += len(token_ids)
                step = getattr(result, "decoding_iter", 0)
                is_one_step = step == num_steps + 1
                num_steps = step
                # Known to be 0: nothing is drafted in plain decoding, nor verified in the prefill.
                drafts = 0 if is_one_step and (self._is_plain or step == 1) else None
                yield Chunk(
                    token_ids,
                    num_proposed=drafts,
                    num_accepted=drafts,
                    finish_reason=_reason(completion) if is_over else None,
                    counters=self._counters(result, num_read) if is_over else None,
                    num_steps=1 if is_one_step else None,
                )
        except SpecDecBenchError:
            raise
        except RequestError as error:
            is_over = True
            raise EngineError(f"TensorRT-LLM: {first_line(error)}") from error
        except Exception as error:  # an error of no single request shuts it down (_handle_background_error)
            is_over = True
            raise EngineDiedError(f"TensorRT-LLM died: {named(error)}") from error
        finally:
            if not is_over:  # the reader left early
                result.abort()

    def _counters(self, result: Any, num_tokens: int) -> AcceptanceCounters | None:
        """Returns the executor's count of one finished request; None in plain decoding, or if the release has none.

        Raises:
            EngineError: the count does not mean what this module's docstring says.
        """
        num_steps = getattr(result, "decoding_iter", 0)
        if not num_steps or not num_tokens:
            return None
        told = f"TensorRT-LLM {self._release} tells decoding_iter={num_steps} for {num_tokens} tokens"
        if num_steps > num_tokens or (self._is_plain and num_steps != num_tokens):
            raise EngineError(f"{told}: it counts steps in another way than this project knows")
        mean = getattr(result, "avg_decoded_tokens_per_iter", None)
        if mean is not None and round(mean * num_steps) != num_tokens:
            raise EngineError(f"{told} and avg_decoded_tokens_per_iter={mean}: tokens or steps are missing")
        if self._is_plain:
            return None
        return AcceptanceCounters(num_verify_steps=None, num_accepted=None, num_decode_steps=num_steps - 1)


def _sampling(sampling: RequestSampling) -> Any:
    """Returns a request's own SamplingParams."""
    from tensorrt_llm import SamplingParams

    return SamplingParams(
        **tensorrt_llm_arguments.sampling_arguments(
            max_new_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            seed=sampling.seed,
            stop_token_ids=sampling.stop_token_ids,
        )
    )


def _reason(completion: Any) -> FinishReason:
    """Returns why a request is over.

    Raises:
        EngineError: TensorRT-LLM gave it up.
    """
    reason: FinishReason = completion.finish_reason
    if reason not in ("length", "stop"):
        raise EngineError(f"TensorRT-LLM: the request ended as {reason!r}")
    return reason
