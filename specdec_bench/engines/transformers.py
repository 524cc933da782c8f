"""transformers' `generate`, with acceptance counted step by step in its own assisted-generation loop.

`generate` blocks, so it runs in one worker thread; tokens get their time there, at the moment the loop hands
them over, and reach the event loop through a queue.
"""

import asyncio
import contextlib
import inspect
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from specdec_bench.checkpoints.checks import check_vocabulary
from specdec_bench.checkpoints.facts import context_length
from specdec_bench.config.checkpoints import draft_checkpoint, resolve
from specdec_bench.config.schema import DraftModelSpec, ExperimentConfig, NgramSpec, TransformersEngine
from specdec_bench.errors import ConfigError, EngineError, EngineUnavailableError
from specdec_bench.records import AcceptanceCounters, Chunk, EngineDescription, FinishReason, GenerationRequest

OWN_ARGUMENTS = ("dtype", "torch_dtype", "revision", "trust_remote_code", "attn_implementation", "device_map")
"""Arguments of `from_pretrained` that other settings of the project decide."""


def create(config: ExperimentConfig) -> "TransformersAdapter":
    """Returns the adapter, not yet started."""
    return TransformersAdapter(config)


class TransformersAdapter:
    """One target, and one draft model if the method has one, on one device; one request at a time."""

    def __init__(self, config: ExperimentConfig) -> None:
        assert isinstance(config.engine, TransformersEngine)
        self._config = config
        self._engine_config = config.engine
        # One thread, so that requests cannot overlap and torch's per-thread state stays the same.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="generate")
        self._target: Any = None
        self._draft: Any = None
        self._arguments: dict[str, Any] = {}

    async def start(self) -> None:
        """Loads target and draft.

        Raises:
            ConfigError: the draft's vocabulary differs, or an argument is unknown or set twice.
            EngineUnavailableError: torch or transformers is missing, or lacks the hook that counts.
            EngineError: a checkpoint does not load.
        """
        await asyncio.get_running_loop().run_in_executor(self._thread, self._load)

    def _load(self) -> None:
        try:
            import torch
            import transformers
        except ImportError as error:
            raise EngineUnavailableError(
                f"engine=transformers needs torch and transformers ({error}); install specdec-bench[transformers]"
            ) from None
        if not hasattr(transformers.GenerationMixin, "_get_candidate_generator"):
            raise EngineUnavailableError(
                f"engine=transformers cannot count acceptance in transformers {transformers.__version__}: "
                "its generation loop has no _get_candidate_generator; use a 5.x release"
            )
        transformers.utils.logging.disable_progress_bar()
        if self._engine_config.num_threads is not None:
            torch.set_num_threads(self._engine_config.num_threads)

        model, draft = self._config.model, draft_checkpoint(self._config)
        device, shared = self._device(torch), self._shared_arguments(transformers)
        if draft is not None:  # before any weights load
            target_size = self._vocab_size(transformers, model.path, model.revision)
            check_vocabulary(draft.path, target_size, self._vocab_size(transformers, draft.path, draft.revision))
        self._target = self._load_model(transformers, model.path, model.revision, shared).to(device)
        self._arguments = {"device": device, "target": {"path": model.path, "revision": model.revision, **shared}}
        if draft is not None:
            self._draft = self._load_model(transformers, draft.path, draft.revision, shared).to(device)
            self._arguments["draft"] = {"path": draft.path, "revision": draft.revision, **shared}
            # assisted generation reads these from the draft's own generation config; its defaults vary the
            # draft length and stop drafting below a confidence of 0.4
            self._draft.generation_config.update(
                num_assistant_tokens=self._draft_length(),
                num_assistant_tokens_schedule="constant",
                assistant_confidence_threshold=0.0,
            )
        self._target._get_candidate_generator = _CountedCandidates.hook(self._target._get_candidate_generator)

    def _draft_length(self) -> int:
        assert isinstance(self._config.spec, DraftModelSpec | NgramSpec)
        return self._config.spec.draft_length

    def _shared_arguments(self, transformers: Any) -> dict[str, Any]:
        """Returns what target and draft are both loaded with."""
        extra, model = self._engine_config.extra_args, self._config.model
        known = set(inspect.signature(transformers.PreTrainedModel.from_pretrained).parameters) - {"args", "kwargs"}
        known |= {"subfolder", "variant", "quantization_config", "max_memory", "offload_folder", "key_mapping"}
        for key in extra:
            if key in OWN_ARGUMENTS:
                raise ConfigError(
                    f"engine.extra_args.{key}: the project sets this itself; use the setting of that name"
                )
            if key not in known:
                raise ConfigError(
                    f"engine.extra_args.{key}: transformers {transformers.__version__} has no such argument of "
                    f"from_pretrained; it has {', '.join(sorted(known - set(OWN_ARGUMENTS)))}"
                )
        return {
            "dtype": model.dtype,
            "trust_remote_code": model.trust_remote_code,
            "attn_implementation": self._engine_config.attn_implementation,
            **extra,
        }

    def _device(self, torch: Any) -> str:
        device = self._engine_config.device
        if device == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise ConfigError(f"engine.device={device}: torch {torch.__version__} sees no GPU; use engine.device=cpu")
        return device

    def _vocab_size(self, transformers: Any, path: str, revision: str | None) -> int:
        trusted = self._config.model.trust_remote_code
        with _loading(path):
            config = transformers.AutoConfig.from_pretrained(
                resolve(path), revision=revision, trust_remote_code=trusted
            )
        size: int = config.get_text_config().vocab_size
        return size

    def _load_model(self, transformers: Any, path: str, revision: str | None, arguments: dict[str, Any]) -> Any:
        with _loading(path):
            model, loaded = transformers.AutoModelForCausalLM.from_pretrained(
                resolve(path), revision=revision, output_loading_info=True, **arguments
            )
        # transformers fills in what the files lack with random numbers, and only warns.
        if lacking := sorted(map(str, [*loaded["missing_keys"], *loaded["mismatched_keys"]])):
            raise EngineError(
                f"{path}: its weights lack {len(lacking)} tensors or have them in another shape ({lacking[0]}, ...); "
                "the checkpoint is incomplete or of another architecture"
            )
        # A checkpoint's sampling defaults (top_p, repetition_penalty, ...) would fill what a request leaves
        # unset; the request alone decides here.
        model.generation_config = transformers.GenerationConfig()
        return model.eval()

    async def reset(self) -> None:
        """Nothing to forget: `generate` builds its caches for each request."""

    def counters(self) -> AcceptanceCounters | None:
        """Returns None: every step tells its own counts."""
        return None

    def describe(self) -> EngineDescription:
        """Returns what was loaded, and how."""
        limit = self._config.model.max_seq_len or context_length(self._target.config.to_dict())
        return EngineDescription(
            arguments=self._arguments,
            resolved={
                role: {
                    "class": type(model).__name__,
                    "dtype": str(model.dtype).removeprefix("torch."),
                    "device": str(model.device),
                    "attn_implementation": model.config._attn_implementation,
                    "num_parameters": sum(p.numel() for p in model.parameters()),
                    "config": model.config.to_dict(),
                }
                for role, model in (("target", self._target), ("draft", self._draft))
                if model is not None
            },
            max_seq_len=limit,
            num_accelerators=1 if self._target.device.type == "cuda" else 0,
            reproducible=True,
        )

    async def stop(self) -> None:
        """Frees the models."""
        self._target = self._draft = None
        self._thread.shutdown(wait=False)

    async def stream(self, request: GenerationRequest) -> AsyncIterator[Chunk]:
        """Yields one chunk a decode step, after the prefill's, as the generation loop emits them.

        Raises:
            EngineError: `generate` failed.
        """
        steps = _StepStream(request, asyncio.get_running_loop())
        generation = self._thread.submit(self._generate, request, steps)
        generation.add_done_callback(steps.end)
        try:
            async for chunk in steps:
                yield chunk
        finally:
            steps.cancelled = True
            # The thread must be idle before the next request starts.
            await asyncio.gather(asyncio.wrap_future(generation), return_exceptions=True)

    def _generate(self, request: GenerationRequest, steps: "_StepStream") -> None:
        import torch
        import transformers

        sampling = request.sampling
        device = self._target.device
        stops = list(sampling.stop_token_ids)
        options: dict[str, Any] = {
            "max_new_tokens": sampling.max_new_tokens,
            "min_new_tokens": sampling.min_new_tokens or None,
            "eos_token_id": stops or None,
            "pad_token_id": 0,  # never used with one request a batch; unset, generate warns
            "do_sample": sampling.temperature > 0,
            "use_cache": True,
        }
        if sampling.temperature > 0:
            options |= {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
            torch.manual_seed(sampling.seed)
        spec = self._config.spec
        if isinstance(spec, NgramSpec):
            options |= {"prompt_lookup_num_tokens": spec.draft_length, "max_matching_ngram_size": spec.ngram_max}
        input_ids = torch.tensor([request.prompt_token_ids], device=device)
        self._target._specdec_steps = steps  # where the candidate hook of this request reports
        with contextlib.suppress(_CancelledError):
            self._target.generate(
                input_ids,
                attention_mask=torch.ones_like(input_ids),
                generation_config=transformers.GenerationConfig(**options),
                assistant_model=self._draft,
                streamer=steps,
            )


@contextlib.contextmanager
def _loading(path: str) -> Iterator[None]:
    """Turns whatever a checkpoint's files make transformers raise into one line that names the checkpoint."""
    try:
        yield
    except Exception as error:  # safetensors, json, torch and remote code raise what they like
        raise EngineError(
            f"{path}: transformers cannot load it: {type(error).__name__}: {_first_line(error)}"
        ) from error


class _CancelledError(Exception):
    """Unwinds `generate` when the reader has gone."""


class _StepStream:
    """The streamer that `generate` calls once a step; iterated by the event loop.

    `put` runs in the generating thread and only notes numbers; the hand-over to the event loop is one
    append and one wake-up.
    """

    def __init__(self, request: GenerationRequest, loop: asyncio.AbstractEventLoop) -> None:
        self.cancelled = False
        self.drafts: list[int] = []
        """What the running step verifies; set by the candidate hook."""
        self.last_size = 0
        self._loop = loop
        self._queue: asyncio.Queue[Chunk | Future[None]] = asyncio.Queue()
        self._stops = frozenset(request.sampling.stop_token_ids)
        self._remaining = request.sampling.max_new_tokens
        self._is_prompt = True

    def put(self, value: Any) -> None:
        """Takes a step's tokens; `generate` passes the prompt first."""
        received_ns = time.perf_counter_ns()
        if self._is_prompt:
            self._is_prompt = False
            return
        if self.cancelled:
            raise _CancelledError
        token_ids = value.flatten().tolist()
        num_proposed, num_accepted = count_step(self.drafts, token_ids, self._remaining, self._stops)
        self.drafts = []
        self.last_size = len(token_ids)
        self._remaining -= self.last_size
        reason: FinishReason | None = None
        if token_ids[-1] in self._stops:
            reason = "stop"
        elif self._remaining == 0:
            reason = "length"
        self._send(Chunk(token_ids, num_proposed, num_accepted, received_ns, reason))

    def end(self, generation: Future[None] | None = None) -> None:
        """Called by `generate` without arguments, which says nothing, and by the finished thread."""
        if generation is not None:
            self._send(generation)

    def _send(self, item: "Chunk | Future[None]") -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody reads any more
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        while isinstance(item := await self._queue.get(), Chunk):
            yield item
        if (error := item.exception()) is not None:
            raise EngineError(f"transformers: {type(error).__name__}: {_first_line(error)}") from error


def count_step(drafts: list[int], token_ids: list[int], remaining: int, stops: frozenset[int]) -> tuple[int, int]:
    """Returns how many drafts one decode step verified and how many of them the target kept.

    Drafts after a drafted stop token, and beyond `remaining - 1` (the last token is always the target's own),
    are not proposals. An accepted stop token is accepted, although it ends the step without a bonus token.

    Args:
        drafts: the step's candidate token ids.
        token_ids: the tokens that the step emitted.
        remaining: tokens that the request could still emit before this step.
        stops: ids that end the request.
    """
    num_proposed = min(len(drafts), remaining - 1)
    for position, token_id in enumerate(drafts[:num_proposed]):
        if token_id in stops:
            num_proposed = position + 1
            break
    num_accepted = 0
    for draft, token_id in zip(drafts[:num_proposed], token_ids, strict=False):
        if draft != token_id:
            break
        num_accepted += 1
    return num_proposed, num_accepted


class _CountedCandidates:
    """Stands before transformers' candidate generator and tells the stream what each step verifies.

    The stock loop verifies drafts in the same forward pass as the prefill, so its first step is no plain
    prefill; here the first pass gets no candidates and emits one token, as in every serving engine.
    """

    def __init__(self, candidates: Any, steps: _StepStream) -> None:
        self._candidates = candidates
        self._steps = steps
        self._num_calls = 0
        self.requires_model_outputs = candidates.requires_model_outputs

    @classmethod
    def hook(cls, get_candidate_generator: Any) -> Any:
        """Returns a replacement for the target's `_get_candidate_generator`."""

        def counted(**kwargs: Any) -> "_CountedCandidates":
            candidates = get_candidate_generator(**kwargs)
            _look_up_the_context_alone(candidates)
            return cls(candidates, get_candidate_generator.__self__._specdec_steps)

        return counted

    def get_candidates(self, input_ids: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Returns the candidate sequence and its logits; none for the prefill."""
        self._num_calls += 1
        if self._num_calls == 1:
            return input_ids, None
        if self._num_calls == 2 and (assistant_kwargs := getattr(self._candidates, "assistant_kwargs", None)):
            # Built for the prompt's length; the sequence has since grown by the prefill's token. Left unset,
            # the mask would be inferred from the padding token, which may be an ordinary token of the prompt.
            assistant_kwargs.pop("position_ids", None)
            assistant_kwargs["attention_mask"] = input_ids.new_ones(input_ids.shape)
        candidate_ids, logits = self._candidates.get_candidates(input_ids, **kwargs)
        self._steps.drafts = candidate_ids[0, input_ids.shape[1] :].tolist()
        return candidate_ids, logits

    def update_candidate_strategy(self, input_ids: Any, scores: Any, num_matches: int) -> None:
        """Passes the loop's count on to the drafter.

        Raises:
            EngineError: the loop counts otherwise than the stream: this release's loop is not the one known.
        """
        if num_matches + 1 != self._steps.last_size:
            raise EngineError(
                f"the loop reports {num_matches} matches in a step of {self._steps.last_size} tokens: "
                "this transformers release counts otherwise; use a tested one"
            )
        self._candidates.update_candidate_strategy(input_ids, scores, num_matches)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._candidates, name)


def _look_up_the_context_alone(candidates: Any) -> None:
    """Lets prompt lookup propose what it finds, whatever the sampling.

    It runs the target's logits processors over made-up equal logits to see which tokens are forbidden; top-p
    then forbids an arbitrary share of the vocabulary, and drafts are lost that the target may accept.
    """
    from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper
    from transformers.generation.candidate_generator import PromptLookupCandidateGenerator

    if isinstance(candidates, PromptLookupCandidateGenerator) and candidates.logits_processor is not None:
        warpers = (TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper)
        kept = [processor for processor in candidates.logits_processor if not isinstance(processor, warpers)]
        candidates.logits_processor = LogitsProcessorList(kept)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
