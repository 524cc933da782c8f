"""vLLM's AsyncLLM in this process, its engine core in a process of vLLM's own.

vLLM merges a request's pending outputs when its reader lags, so one output of `generate` may hold several engine
steps. The adapter therefore records each step's tokens, and the time they reached this process, before outputs are
merged: in the collector that vLLM fills for each request (see `_collector`).
"""

import dataclasses
import itertools
import os
import time
import typing
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

from specdec_bench.config.schema.engine import VLLMEngine
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.config.schema.spec import NgramSpec, NoSpec
from specdec_bench.engines.readback import differences
from specdec_bench.engines.settings import settings_of
from specdec_bench.engines.step_buffer import StepBuffer
from specdec_bench.engines.vllm import arguments as vllm_arguments
from specdec_bench.errors import ConfigError, EngineDiedError, EngineError, EngineUnavailableError, first_line, named
from specdec_bench.records.manifest import EngineDescription
from specdec_bench.records.request import (
    AcceptanceCounters,
    Chunk,
    FinishReason,
    GenerationRequest,
    RequestMade,
    RequestSampling,
    StepBatch,
)


def create(config: ExperimentConfig) -> "VLLMAdapter":
    """Returns the adapter, not yet started."""
    return VLLMAdapter(config)


class VLLMAdapter:
    """One AsyncLLM. vLLM's scheduler counts acceptance, per request if the release supports that."""

    def __init__(self, config: ExperimentConfig) -> None:
        assert isinstance(config.engine, VLLMEngine)
        self._config = config
        self._engine_config = config.engine
        self._is_plain = isinstance(config.spec, NoSpec)
        self._engine: Any = None
        self._arguments: dict[str, Any] = {}
        self._totals = _Totals()
        self._nominal_proposals = False
        self._runner: str | None = None
        self._counts_requests = False
        """Whether this release reports how many drafts each request accepted."""
        self._dead_error: type[Exception] = EngineError

    def _import(self) -> Any:
        """Returns vLLM.

        Raises:
            EngineUnavailableError: it is missing, or too old.
        """
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(self._engine_config.cpu_kv_cache_gib))
        try:
            import vllm
            import vllm.config
            import vllm.engine.arg_utils
            import vllm.v1.engine.async_llm
            import vllm.v1.engine.exceptions
        except ImportError as error:
            raise EngineUnavailableError(
                f"engine=vllm needs vLLM 0.20 or later ({error}); install specdec-bench[vllm], or vLLM's build for "
                "this machine"
            ) from None
        return vllm

    async def start(self) -> None:
        """Loads target and draft.

        Raises:
            ConfigError: an argument is unknown or set twice.
            EngineUnavailableError: vLLM is missing, or the installed release lacks something the configuration needs.
            EngineError: it does not start.
        """
        vllm = self._import()
        async_llm, arg_utils = vllm.v1.engine.async_llm, vllm.engine.arg_utils
        self._dead_error = vllm.v1.engine.exceptions.EngineDeadError
        release = vllm.__version__
        vllm_arguments.check_device(self._config.spec.name, is_cpu=vllm_arguments.is_cpu_build())
        known = [field.name for field in dataclasses.fields(arg_utils.AsyncEngineArgs)]
        arguments = vllm_arguments.engine_arguments(self._config)
        if (speculative := arguments.get("speculative_config")) is not None:
            fields = [field.name for field in dataclasses.fields(vllm.config.SpeculativeConfig)]
            vllm_arguments.check_method(self._config.spec.name, _methods(), fields, speculative)
        arguments = vllm_arguments.keep_known(arguments, known, release)
        arguments |= vllm_arguments.EXTRA_ARGUMENTS.check(self._engine_config.extra_args, known, release)
        self._arguments = arguments
        self._counts_requests = "per_request_spec_decode_metrics" in arguments
        if hasattr(async_llm, "RequestOutputCollector"):
            async_llm.RequestOutputCollector = _collector(async_llm.RequestOutputCollector)
        try:
            made = arg_utils.AsyncEngineArgs(**arguments)
            # As `from_engine_args` does, but for the check between, and with the defaults of vLLM's server, which users
            # deploy: on an H100 that is another max_num_batched_tokens.
            resolved = made.create_engine_config(async_llm.UsageContext.OPENAI_API_SERVER)
            self._runner = _runner(resolved)
            self._check_drafting(resolved)
            self._engine = async_llm.AsyncLLM.from_vllm_config(
                resolved,
                stat_loggers=[_stat_logger(self._totals)],
                enable_log_requests=made.enable_log_requests,
                disable_log_stats=made.disable_log_stats,
            )
        except ConfigError:
            raise
        except Exception as error:  # vLLM may raise anything; the log has its engine core's errors
            raise EngineError(f"vLLM {release} did not start: {named(error)}") from error
        # vLLM's second model runner pads drafts that its n-gram lookup did not find.
        self._nominal_proposals = isinstance(self._config.spec, NgramSpec) and self._runner == "V2"

    def _check_drafting(self, resolved: Any) -> None:
        """Refuses a configuration that vLLM would run as another method than the run's label, before weights load.

        Raises:
            ConfigError: naming what vLLM would run.
        """
        drafting = resolved.speculative_config
        vllm_arguments.check_resolved_method(self._config.spec.name, None if drafting is None else drafting.method)
        if drafting is not None:
            settings = settings_of(drafting, without="target_")
            vllm_arguments.check_batch_sizes(self._config.spec, settings)
            vllm_arguments.check_acceptance_of_drafts(
                settings,
                is_cpu=resolved.device_config.device_type == "cpu",
                runner=self._runner,
            )

    async def reset(self) -> None:
        """Clears the prefix cache, earlier responses and the counts."""
        if vllm_arguments.remembers(self._config.spec):
            await self.stop()
            await self.start()
        await self._engine.reset_prefix_cache()
        self._totals.clear()

    def counters(self) -> AcceptanceCounters | None:
        """Returns the scheduler's counts over all requests since the last reset; None for plain decoding."""
        return None if self._is_plain else self._totals.counters(self._nominal_proposals)

    def read_back(self, sampling: RequestSampling) -> dict[str, Any]:
        """Returns the sampling as vLLM's SamplingParams hold it.

        Raises:
            ConfigError: vLLM refuses a value.
            EngineUnavailableError: vLLM is missing.
        """
        self._import()
        try:
            made = _sampling(sampling)
        except ValueError as error:
            raise ConfigError(f"sampling: vLLM refuses it: {first_line(error)}") from None
        return {
            "max_new_tokens": made.max_tokens,
            "min_new_tokens": made.min_tokens,
            "temperature": made.temperature,
            "top_p": made.top_p,
            "top_k": max(made.top_k, 0),
            "seed": made.seed,
            "stop_token_ids": made.stop_token_ids,
        }

    def describe(self) -> EngineDescription:
        """Returns the arguments that were passed and vLLM's resolved configuration."""
        import vllm

        config, engine = self._engine.vllm_config, self._engine_config
        resolved = settings_of(config, without="target_")  # repeats other sections
        num_workers = engine.tensor_parallel_size * engine.pipeline_parallel_size * engine.data_parallel_size
        return EngineDescription(
            arguments=self._arguments,
            resolved={"vllm": vllm.__version__, **resolved},
            max_seq_len=config.model_config.max_model_len,
            num_accelerators=0 if config.device_config.device_type == "cpu" else num_workers,
            reproducible=False,
            runner=self._runner,
            synthetic=vllm_arguments.synthetic_stamp(engine),
            differences=differences(vllm_arguments.asked_and_resolved(self._arguments, resolved)),
        )

    async def stop(self) -> None:
        """Ends the engine core; without it the process takes seconds to exit."""
        self._engine.shutdown()

    async def stream(self, request: GenerationRequest) -> AsyncIterator[Chunk | StepBatch]:
        """Yields the engine steps in batches; one chunk per delivery if this release hides the steps.

        Raises:
            EngineDiedError: the engine core is dead.
            EngineError: the request failed.
        """
        steps = StepBuffer()
        _NOTED.set(steps)
        outputs = self._engine.generate(
            request_id=request.request_id,
            prompt={"prompt_token_ids": list(request.prompt_token_ids)},
            sampling_params=_sampling(request.sampling),
        )
        failure: EngineError | None = None
        try:
            async for output in outputs:
                completion = output.outputs[0]
                if completion.finish_reason not in (None, "stop", "length"):  # abort, error, ...
                    failure = EngineError(f"vLLM gave the request up: {completion.finish_reason}")
                    break
                if not steps.is_attached:
                    counters = self._counters(completion, None)
                    made = _made(output) if output.finished else None
                    yield Chunk(completion.token_ids, finish_reason=_reason(completion), counters=counters, made=made)
                    continue
                yield self._batch(steps, output if output.finished else None)
        except self._dead_error as error:
            failure = EngineDiedError(f"vLLM's engine core died: {named(error)}")
        except (ValueError, RuntimeError) as error:
            failure = EngineError(f"vLLM: {named(error)}")
        finally:
            await outputs.aclose()  # if the reader left early, vLLM drops the request
        if failure is not None:
            yield self._batch(steps, None)
            raise failure

    def _batch(self, steps: StepBuffer, finished: Any) -> StepBatch:
        """Returns the steps recorded since the last call; `finished` is the last output, if the request is over."""
        completion = None if finished is None else finished.outputs[0]
        return steps.take(
            is_plain=self._is_plain,
            counts_requests=self._counts_requests,
            finish_reason=None if completion is None else _reason(completion),
            # Steps that are recorded but not yet taken belong to the request too.
            counters=None if completion is None else self._counters(completion, steps.num_steps + len(steps.sizes) - 1),
            made=None if finished is None else _made(finished),
        )

    def _counters(self, completion: Any, num_decode_steps: int | None) -> AcceptanceCounters | None:
        """Returns the scheduler's counts of one finished request, if this release keeps them."""
        metrics = getattr(completion, "spec_decode_metrics", None)
        if metrics is None:
            return None
        return AcceptanceCounters(
            num_verify_steps=sum(metrics.histogram),
            num_accepted=sum(accepted * number for accepted, number in enumerate(metrics.histogram)),
            num_proposed=None if self._nominal_proposals else metrics.num_draft_tokens,
            num_decode_steps=num_decode_steps,
            histogram=tuple(metrics.histogram),
            per_step_accepted=tuple(metrics.per_step_accepted),
            per_step_proposed=None if self._nominal_proposals else tuple(metrics.per_step_drafted),
        )


class _Totals:
    """The scheduler's counts, summed over engine iterations."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.verify_steps = self.proposed = self.accepted = self.decode_steps = 0
        self.at_least: list[int] = []

    def add(self, scheduler_stats: Any, iteration_stats: Any) -> None:
        # One entry per request that decoded in this iteration.
        self.decode_steps += len(getattr(iteration_stats, "inter_token_latencies_iter", ()))
        stats = getattr(scheduler_stats, "spec_decoding_stats", None)
        if stats is None:
            return
        self.verify_steps += stats.num_drafts
        self.proposed += stats.num_draft_tokens
        self.accepted += stats.num_accepted_tokens
        by_position = stats.num_accepted_tokens_per_pos
        self.at_least += [0] * (len(by_position) - len(self.at_least))
        for position, number in enumerate(by_position):
            self.at_least[position] += number

    def counters(self, nominal_proposals: bool) -> AcceptanceCounters:
        at_least = [self.verify_steps, *self.at_least, 0]
        return AcceptanceCounters(
            num_verify_steps=self.verify_steps,
            num_accepted=self.accepted,
            num_proposed=None if nominal_proposals else self.proposed,
            num_decode_steps=self.decode_steps,
            histogram=tuple(now - then for now, then in itertools.pairwise(at_least)),
        )


def _stat_logger(totals: _Totals) -> Any:
    """Returns a factory of vLLM stat loggers that add to the totals; `record`'s arguments grew over the releases."""
    from vllm.v1.metrics.loggers import StatLoggerBase

    class Totalling(StatLoggerBase):  # type: ignore[misc]
        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        def record(self, scheduler_stats: Any = None, iteration_stats: Any = None, *_: Any, **__: Any) -> None:
            totals.add(scheduler_stats, iteration_stats)

        def log_engine_initialized(self) -> None:
            pass

        def log(self) -> None:
            pass

    return Totalling


_NOTED: ContextVar[StepBuffer | None] = ContextVar("_NOTED", default=None)
"""The steps of the request that the running task is about to send. vLLM's new collector finds them here."""


def _collector(base: Any) -> Any:
    """Returns vLLM's class that collects one request's outputs, extended to record each step's tokens and time.

    vLLM calls `put` once for every engine step that has output for the request. Waking the reader every time costs
    more than recording a step, and under load outputs wait for their reader and are merged. So the reader is woken
    only periodically, and at the end.
    """
    if getattr(base, "notes_steps", False):
        return base

    class StepNoting(base):  # type: ignore[misc]
        notes_steps = True

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.specdec_steps = _NOTED.get()
            if self.specdec_steps is not None:
                self.specdec_steps.is_attached = True

        def put(self, output: Any) -> None:
            steps, completions = self.specdec_steps, getattr(output, "outputs", None)
            if steps is None or not completions:  # not a request of ours, or an error
                super().put(output)
                return
            now_ns = time.perf_counter_ns()
            if token_ids := completions[0].token_ids:
                steps.note(token_ids, now_ns)
            if steps.is_due(now_ns) or output.finished:
                super().put(output)

    return StepNoting


def _runner(resolved: Any) -> str | None:
    """Returns which of its two model runners vLLM chose; None in releases that have one."""
    is_second = getattr(resolved, "use_v2_model_runner", None)
    return None if is_second is None else "V2" if is_second else "V1"


def _methods() -> list[str]:
    """Returns the methods that the installed release lists; nothing if it lists none."""
    from vllm.config import speculative

    def flat(literal: Any) -> list[str]:
        return [value for value in typing.get_args(literal) if isinstance(value, str)]

    return flat(getattr(speculative, "SpeculativeMethod", None))


def _sampling(sampling: RequestSampling) -> Any:
    """Returns a request's own SamplingParams."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    return SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        seed=sampling.seed if sampling.temperature > 0 else None,
        max_tokens=sampling.max_new_tokens,
        min_tokens=sampling.min_new_tokens,
        stop_token_ids=list(sampling.stop_token_ids),
        ignore_eos=True,  # the model's own end-of-sequence tokens are among the stop ids
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
    )


def _made(output: Any) -> RequestMade:
    """Returns what vLLM reports of a finished request. Only later releases count preemptions."""
    prompt = output.prompt_token_ids
    return RequestMade(
        num_prompt_tokens=None if prompt is None else len(prompt),
        num_preemptions=getattr(output.metrics, "num_preemptions", None),
    )


def _reason(completion: Any) -> FinishReason | None:
    reason: FinishReason | None = completion.finish_reason
    return reason
