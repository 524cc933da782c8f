"""vLLM's AsyncLLM in this process, its engine core in a process of vLLM's own.

vLLM merges a request's pending outputs when its reader lags, so what `generate` yields may hold several engine
steps. The step boundaries, and the times at which each step's output reached this process, are noted where the
outputs are still apart: in the collector that vLLM fills for each request (see `_collector`).
"""

import dataclasses
import enum
import itertools
import os
import time
import typing
from collections.abc import AsyncIterator
from typing import Any

from specdec_bench.config.schema import ExperimentConfig, NgramSpec, NoSpec, SuffixSpec, VLLMEngine
from specdec_bench.engines import vllm_arguments
from specdec_bench.errors import EngineDiedError, EngineError, EngineUnavailableError
from specdec_bench.records import AcceptanceCounters, Chunk, EngineDescription, FinishReason, GenerationRequest


def create(config: ExperimentConfig) -> "VLLMAdapter":
    """Returns the adapter, not yet started."""
    return VLLMAdapter(config)


class VLLMAdapter:
    """One AsyncLLM. Acceptance is counted by vLLM's scheduler, per request where the release does that."""

    def __init__(self, config: ExperimentConfig) -> None:
        assert isinstance(config.engine, VLLMEngine)
        self._config = config
        self._engine_config = config.engine
        self._is_plain = isinstance(config.spec, NoSpec)
        self._engine: Any = None
        self._arguments: dict[str, Any] = {}
        self._totals = _Totals()
        self._nominal_proposals = False
        self._counts_requests = False
        """Whether this release tells what each request accepted."""

    async def start(self) -> None:
        """Loads target and draft.

        Raises:
            ConfigError: an argument is unknown or set twice.
            EngineUnavailableError: vLLM is missing, or the installed release lacks what was asked for.
            EngineError: it does not start.
        """
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(self._engine_config.cpu_kv_cache_gib))
        try:
            import vllm
            from vllm.config import SpeculativeConfig
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.v1.engine import async_llm
        except ImportError as error:
            raise EngineUnavailableError(
                f"engine=vllm needs vLLM 0.20 or later ({error}); install specdec-bench[vllm], or vLLM's build for "
                "this machine"
            ) from None
        release = vllm.__version__
        known = [field.name for field in dataclasses.fields(AsyncEngineArgs)]
        arguments = vllm_arguments.engine_arguments(self._config)
        if (speculative := arguments.get("speculative_config")) is not None:
            fields = [field.name for field in dataclasses.fields(SpeculativeConfig)]
            vllm_arguments.check_method(self._config.spec.name, _methods(), fields, speculative)
        arguments = vllm_arguments.fitting(arguments, known, release)
        arguments |= vllm_arguments.extra_arguments(self._engine_config.extra_args, known, release)
        self._arguments = arguments
        self._counts_requests = "per_request_spec_decode_metrics" in arguments
        if hasattr(async_llm, "RequestOutputCollector"):
            async_llm.RequestOutputCollector = _collector(async_llm.RequestOutputCollector)
        try:
            self._engine = async_llm.AsyncLLM.from_engine_args(
                AsyncEngineArgs(**arguments), stat_loggers=[_stat_logger(self._totals)]
            )
        except Exception as error:  # vLLM raises what it likes, and what its engine core raised stands in the log
            raise EngineError(
                f"vLLM {release} did not start: {type(error).__name__}: {_gist(error)}; run.log has its own words"
            ) from error
        resolved = self._engine.vllm_config
        # vLLM's second model runner fills up what its n-gram lookup did not find.
        self._nominal_proposals = isinstance(self._config.spec, NgramSpec) and bool(
            getattr(resolved, "use_v2_model_runner", False)
        )

    async def reset(self) -> None:
        """Forgets the prefix cache, earlier responses and the counts."""
        spec = self._config.spec
        if isinstance(spec, SuffixSpec) and spec.max_cached_requests:
            # vLLM cannot empty its suffix tree of earlier responses: only a new engine has forgotten them.
            await self.stop()
            await self.start()
        await self._engine.reset_prefix_cache()
        self._totals.clear()

    def counters(self) -> AcceptanceCounters | None:
        """Returns the scheduler's counts over all requests since the last reset; None for plain decoding."""
        return None if self._is_plain else self._totals.counters(self._nominal_proposals)

    def describe(self) -> EngineDescription:
        """Returns the arguments that were passed and vLLM's resolved configuration."""
        import vllm

        config, engine = self._engine.vllm_config, self._engine_config
        num_workers = engine.tensor_parallel_size * engine.pipeline_parallel_size * engine.data_parallel_size
        return EngineDescription(
            arguments=self._arguments,
            resolved={"vllm": vllm.__version__, **_plain(config)},
            max_seq_len=config.model_config.max_model_len,
            num_accelerators=0 if config.device_config.device_type == "cpu" else num_workers,
            reproducible=False,
            synthetic=vllm_arguments.synthetic_stamp(engine),
        )

    async def stop(self) -> None:
        """Ends the engine core; without it the process takes seconds to exit."""
        self._engine.shutdown()

    async def stream(self, request: GenerationRequest) -> AsyncIterator[Chunk]:
        """Yields one chunk an engine step; where this release hides the steps, one a delivery.

        vLLM counts drafts before it cuts a step at a stop token or at the limit, and only a request's last step
        can be cut. So a step's accepted drafts are its tokens less the target's own, and the last step's follow
        from the request's sum: of S steps after the prefill, the V with drafts emit accepted + 1 tokens each and
        the others one, S + accepted in all, less what was cut.

        Raises:
            EngineDiedError: the engine core is dead.
            EngineError: the request failed.
        """
        from vllm.v1.engine.exceptions import EngineDeadError

        num_tokens = num_steps = 0
        outputs = self._engine.generate(
            request_id=request.request_id,
            prompt={"prompt_token_ids": list(request.prompt_token_ids)},
            sampling_params=_sampling(request),
        )
        try:
            async for output in outputs:
                steps = getattr(output, "specdec_steps", None)
                completion = output.outputs[0]
                token_ids = completion.token_ids
                num_tokens += len(token_ids)
                if not steps:
                    counters = self._counters(completion, num_steps - 1 if num_steps else None)
                    yield Chunk(token_ids, finish_reason=_reason(completion), counters=counters)
                    continue
                num_steps += len(steps)
                last = len(steps) - 1
                begin = 0
                for index, (size, received_ns) in enumerate(steps):
                    is_prefill = num_steps - last + index == 1
                    is_last = index == last and output.finished
                    proposed, accepted, counters = None, size - 1 if self._counts_requests else None, None
                    if self._is_plain or (is_prefill and self._counts_requests):
                        proposed = accepted = 0
                    if is_last and self._counts_requests:
                        counters = self._counters(completion, num_steps - 1)
                        if counters is not None and not is_prefill:
                            accepted = size - 1 + counters.num_accepted + num_steps - num_tokens
                    yield Chunk(
                        token_ids[begin : begin + size],
                        proposed,
                        accepted,
                        received_ns,
                        _reason(completion) if is_last else None,
                        counters,
                        num_steps=1,
                    )
                    begin += size
        except EngineDeadError as error:
            raise EngineDiedError(f"vLLM's engine core died: {_gist(error)}; run.log has its last words") from error
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"vLLM: {type(error).__name__}: {_gist(error)}") from error
        finally:
            await outputs.aclose()  # where the reader left early, vLLM drops the request

    def _counters(self, completion: Any, num_decode_steps: int | None) -> AcceptanceCounters | None:
        """Returns the scheduler's counts of one finished request, where this release keeps them."""
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
        # One entry a request that decoded in this iteration.
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


def _collector(base: Any) -> Any:
    """Returns vLLM's collector of one request's outputs, noting of each its size and when it came.

    `put` is called once for every engine step that has output for the request.
    """
    if getattr(base, "notes_steps", False):
        return base

    class StepNoting(base):  # type: ignore[misc]
        notes_steps = True

        def put(self, output: Any) -> None:
            pending = self.output
            super().put(output)
            completions = getattr(output, "outputs", None)
            if not completions:
                return
            noted = getattr(pending, "specdec_steps", None)
            if size := len(completions[0].token_ids):
                step = (size, time.perf_counter_ns())
            if self.output is output:
                output.specdec_steps = [step] if size else []
            elif noted is not None and size:
                noted.append(step)

    return StepNoting


def _methods() -> list[str]:
    """Returns the methods that the installed release names; nothing if it does not say."""
    from vllm.config import speculative

    def flat(literal: Any) -> list[str]:
        return [value for value in typing.get_args(literal) if isinstance(value, str)]

    return flat(getattr(speculative, "SpeculativeMethod", None))


def _sampling(request: GenerationRequest) -> Any:
    """Returns a request's own SamplingParams."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    sampling = request.sampling
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


def _reason(completion: Any) -> FinishReason | None:
    reason = completion.finish_reason
    return None if reason is None else "length" if reason == "length" else "stop"


def _gist(error: BaseException) -> str:
    return (str(error).strip() or "no message").splitlines()[0]


def _plain(config: Any) -> dict[str, Any]:
    """Returns a vLLM configuration as plain data; what is neither a setting nor a section of settings is left out."""
    plain: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name, None)
        if isinstance(value, enum.Enum):
            value = value.name
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            if not field.name.startswith("target_"):  # the same again
                plain[field.name] = _plain(value)
        elif isinstance(value, bool | int | float | str | list | tuple | dict) or value is None:
            plain[field.name] = value
        elif type(value).__module__ == "torch":
            plain[field.name] = str(value)
    return plain
