"""SGLang's Engine in this process, its scheduler in a process of SGLang's own.

SGLang gives its reader all pending tokens at once, so one output of `async_generate` may hold several engine steps,
and its list of tokens keeps growing. The adapter therefore records each step's tokens and time where the scheduler's
messages reach this process, one message per engine step (see `_note_steps`).
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

from specdec_bench.config.schema.engine import SGLangEngine
from specdec_bench.config.schema.experiment import ExperimentConfig, draft_length
from specdec_bench.config.schema.spec import NoSpec
from specdec_bench.engines.readback import differences
from specdec_bench.engines.sglang import arguments as sglang_arguments
from specdec_bench.engines.sglang.release import import_sglang, read
from specdec_bench.engines.sglang.requests import request_counters, sampling_parameters
from specdec_bench.engines.step_buffer import StepBuffer
from specdec_bench.errors import (
    ConfigError,
    EngineDiedError,
    EngineError,
    SpecDecBenchError,
    first_line,
    named,
)
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

FLUSH_TIMEOUT_S = 30.0
"""How long a reset waits for requests that were dropped."""


def create(config: ExperimentConfig) -> "SGLangAdapter":
    """Returns the adapter, not yet started."""
    return SGLangAdapter(config)


class SGLangAdapter:
    """One sglang.Engine. SGLang's scheduler counts acceptance for each request."""

    def __init__(self, config: ExperimentConfig) -> None:
        assert isinstance(config.engine, SGLangEngine)
        self._config = config
        self._engine_config = config.engine
        self._is_plain = isinstance(config.spec, NoSpec)
        self._proposed_per_step = sglang_arguments.proposed_per_step(config)
        self._draft_length = draft_length(config.spec) or 0
        self._engine: Any = None
        self._arguments: dict[str, Any] = {}
        self._noted: dict[str, StepBuffer] = {}
        """The steps of every request in flight, by its id."""
        self._readers: set[asyncio.Task[Any]] = set()
        self._is_dead = False

    async def start(self) -> None:
        """Loads target and draft.

        Raises:
            ConfigError: an argument is unknown or set twice.
            EngineUnavailableError: SGLang is missing, or the installed release lacks something the configuration needs.
            EngineError: it does not start.
        """
        sglang = import_sglang()
        release = read(sglang)
        arguments = sglang_arguments.engine_arguments(self._config, release.known, release.algorithms)
        arguments |= sglang_arguments.EXTRA_ARGUMENTS.check(
            self._engine_config.extra_args, release.known, release.version
        )
        self._arguments = arguments
        # By default SGLang kills this process when its scheduler fails.
        handler = {"custom_sigquit_handler": ignore_signal} if "custom_sigquit_handler" in release.known else {}
        try:
            self._engine = sglang.Engine(**arguments, **handler)
        except SpecDecBenchError:
            raise
        except Exception as error:  # SGLang may raise anything; the log has its scheduler's errors
            raise EngineError(f"SGLang {release.version} did not start: {named(error)}") from error
        manager, loop = self._engine.tokenizer_manager, asyncio.get_running_loop()
        manager.auto_create_handle_loop()
        # After the line above, which sets handlers that end this process.
        loop.add_signal_handler(signal.SIGQUIT, self._die)
        loop.remove_signal_handler(signal.SIGTERM)
        _note_steps(manager, self._noted)

    async def reset(self) -> None:
        """Clears the prefix cache and the n-grams of earlier requests.

        Raises:
            EngineError: SGLang refuses.
        """
        # With a deadline SGLang waits until it is idle; a request whose last tokens have come still runs for a moment.
        answer = await self._engine.tokenizer_manager.flush_cache(timeout_s=FLUSH_TIMEOUT_S)
        if getattr(answer, "success", True) is not True:
            raise EngineError(f"SGLang did not flush its cache: {getattr(answer, 'message', '')}")

    def counters(self) -> AcceptanceCounters | None:
        """Returns None: every request reports its own counts."""
        return None

    def read_back(self, sampling: RequestSampling) -> Mapping[str, Any]:
        """Returns the sampling as SGLang's SamplingParams hold it. SGLang uses its own seed, whatever the request's.

        Raises:
            ConfigError: SGLang refuses a value.
            EngineUnavailableError: SGLang is missing.
        """
        parameters = import_sglang().srt.sampling.sampling_params
        try:
            made = parameters.SamplingParams(**sampling_parameters(sampling))
            made.normalize(None)
            made.verify(2**31)  # the vocabulary's size, for a bias that no request sets
        except ValueError as error:
            raise ConfigError(f"sampling: SGLang refuses it: {first_line(error)}") from None
        is_greedy = made.top_k == 1 and (sampling.temperature == 0 or sampling.top_k != 1)
        return {
            "max_new_tokens": made.max_new_tokens,
            "min_new_tokens": sampling.min_new_tokens,  # not passed: refused where it is not 0
            "temperature": 0.0 if is_greedy else made.temperature,
            "top_p": made.top_p,
            "top_k": 0 if made.top_k >= sglang_arguments.ALL_TOKENS else made.top_k,
            "seed": f"{sglang_arguments.FIXED['random_seed']} for all requests",
            "stop_token_ids": made.stop_token_ids or (),
        }

    def describe(self) -> EngineDescription:
        """Returns the arguments that were passed and SGLang's resolved ones."""
        import sglang

        engine, resolved = self._engine_config, sglang_arguments.resolved(self._engine.server_args)
        num_workers = engine.tensor_parallel_size * engine.pipeline_parallel_size * engine.data_parallel_size
        return EngineDescription(
            arguments=self._arguments,
            resolved={"sglang": sglang.__version__, **resolved},
            # Its scheduler reserves two of the context's positions and shortens a longer reply silently.
            max_seq_len=self._engine.tokenizer_manager.context_len - 2,
            num_accelerators=0 if resolved.get("device") == "cpu" else num_workers,
            reproducible=False,
            synthetic=sglang_arguments.synthetic_stamp(self._config, os.environ),
            differences=differences(sglang_arguments.asked_and_resolved(self._arguments, resolved)),
            notes=sglang_arguments.notes(self._config.spec),
        )

    async def stop(self) -> None:
        """Ends SGLang's processes."""
        self._engine.shutdown()

    def _die(self) -> None:
        """Handles SGLang's signal that one of its processes failed: tells every reader."""
        self._is_dead = True
        for reader in self._readers:
            reader.cancel()

    async def stream(self, request: GenerationRequest) -> AsyncIterator[Chunk | StepBatch]:
        """Yields the engine steps in batches; one chunk per delivery if this release hides the steps.

        Raises:
            EngineDiedError: SGLang's scheduler is dead.
            EngineError: the request failed.
        """
        manager, rid = self._engine.tokenizer_manager, request.request_id
        steps = self._noted[rid] = StepBuffer()
        reader = asyncio.current_task()
        assert reader is not None
        num_cancellations = reader.cancelling()
        failure: EngineError | None = None
        num_read, is_over = 0, False
        self._readers.add(reader)
        try:
            if self._is_dead:
                raise asyncio.CancelledError
            outputs = await self._engine.async_generate(
                input_ids=list(request.prompt_token_ids),
                sampling_params=sampling_parameters(request.sampling),
                stream=True,
                rid=rid,
            )
            async with aclosing(outputs):
                async for output in outputs:
                    reason = _reason(output["meta_info"])
                    is_over = reason is not None
                    made = _made(output["meta_info"]) if is_over else None
                    if not steps.is_attached:
                        token_ids = output["output_ids"][num_read:]  # a copy: SGLang's list keeps growing
                        num_read += len(token_ids)
                        counters = self._counters(output["meta_info"], None) if is_over else None
                        yield Chunk(token_ids, finish_reason=reason, counters=counters, made=made)
                    elif is_over:
                        num_steps = steps.num_steps + len(steps.sizes)
                        counters = self._counters(output["meta_info"], max(num_steps - 1, 0))
                        yield self._take(steps, reason, counters, made)
                        num_tokens = len(output["output_ids"])
                        if steps.num_tokens != num_tokens:
                            raise EngineError(f"SGLang: {steps.num_tokens} tokens came in steps, {num_tokens} in all")
                    elif steps.is_due(time.perf_counter_ns()):
                        yield self._take(steps)
                    # Before Python 3.12 asyncio.wait_for, in which SGLang waits, loses a cancellation that meets a
                    # delivery.
                    if reader.cancelling() > num_cancellations:
                        raise asyncio.CancelledError
        except asyncio.CancelledError:
            if not self._is_dead:
                raise
            reader.uncancel()
            failure = EngineDiedError("SGLang's scheduler died")
        except EngineError as error:
            failure = error
        except (ValueError, RuntimeError) as error:
            failure = EngineError(f"SGLang: {named(error)}")
        finally:
            self._readers.discard(reader)
            self._noted.pop(rid, None)
            if not is_over and not self._is_dead:  # the reader left early
                manager.abort_request(rid)
        if failure is not None:
            if steps.is_attached:
                yield self._take(steps)
            raise failure

    def _take(
        self,
        steps: StepBuffer,
        reason: FinishReason | None = None,
        counters: AcceptanceCounters | None = None,
        made: RequestMade | None = None,
    ) -> StepBatch:
        return steps.take(
            is_plain=self._is_plain,
            counts_requests=not self._is_plain,
            finish_reason=reason,
            counters=counters,
            made=made,
            proposed_per_step=self._proposed_per_step,
        )

    def _counters(self, meta: Mapping[str, Any], num_decode_steps: int | None) -> AcceptanceCounters | None:
        """Returns the scheduler's counts of one finished request; zeros if the prefill ended it."""
        if self._is_plain:
            return None
        return request_counters(
            num_verify_steps=meta.get("spec_verify_ct", 0),
            num_accepted=meta.get("spec_num_correct_drafts", meta.get("spec_accepted_drafts", 0)),
            histogram=meta.get("spec_correct_drafts_histogram", meta.get("spec_accept_histogram")),
            draft_length=self._draft_length,
            proposed_per_step=self._proposed_per_step,
            num_decode_steps=num_decode_steps,
        )


def ignore_signal(*_: Any) -> None:
    """Ignores SGLang's signal while it starts: its constructor raises the same failure."""


def _note_steps(manager: Any, noted: Mapping[str, StepBuffer]) -> None:
    """Records each of the scheduler's messages before the tokenizer manager queues it for readers, who may be late.

    A message holds the tokens of one engine step, for every request that got any.
    """
    handle = getattr(manager, "_handle_batch_output", None)
    if handle is None:
        return

    async def noting(message: Any) -> None:
        token_ids = getattr(message, "output_ids", None)
        if token_ids is not None:
            now_ns = time.perf_counter_ns()
            for rid, new in zip(message.rids, token_ids, strict=True):
                steps = noted.get(rid)
                if steps is not None:
                    steps.is_attached = True
                    if len(new):  # len: an array has no truth value
                        steps.note(list(new), now_ns)
        await handle(message)

    manager._handle_batch_output = noting


def _made(meta: Mapping[str, Any]) -> RequestMade:
    """Returns what SGLang reports of a finished request."""
    return RequestMade(num_prompt_tokens=meta.get("prompt_tokens"), num_preemptions=meta.get("num_retractions"))


def _reason(meta: Mapping[str, Any]) -> FinishReason | None:
    """Returns why a request is over, None if it is not.

    Raises:
        EngineError: SGLang gave it up.
    """
    reason = meta.get("finish_reason")
    if reason is None:
        return None
    if reason.get("type") == "length":
        return "length"
    if reason.get("type") == "stop":
        return "stop"
    raise EngineError(f"SGLang: {reason.get('message') or reason}")
