"""transformers' `generate`, with acceptance counted step by step in its own assisted-generation loop.

`generate` blocks, so it runs in one worker thread. Tokens are timed there, when the loop emits them, and reach the
event loop through a queue.
"""

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from specdec_bench.checkpoints.checks import check_vocabulary
from specdec_bench.checkpoints.facts import context_length
from specdec_bench.config.checkpoints import draft_checkpoint, resolve
from specdec_bench.config.schema.engine import TransformersEngine
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.config.schema.spec import DraftModelSpec, NgramSpec
from specdec_bench.engines.extra_args import ExtraArguments
from specdec_bench.engines.readback import differences
from specdec_bench.engines.transformers.steps import CancelledGenerationError, CountedCandidates, StepStream
from specdec_bench.errors import ConfigError, EngineError, EngineUnavailableError, first_line, named
from specdec_bench.records.manifest import EngineDescription
from specdec_bench.records.request import AcceptanceCounters, Chunk, GenerationRequest, RequestSampling

SETTINGS: Mapping[str, str] = {
    "pretrained_model_name_or_path": "model.path",
    "dtype": "model.dtype",
    "torch_dtype": "model.dtype",
    "revision": "model.revision",
    "trust_remote_code": "model.trust_remote_code",
    "attn_implementation": "engine.attn_implementation",
    "device_map": "engine.device",
}
"""Arguments of `from_pretrained` that a setting decides."""

EXTRA_ARGUMENTS = ExtraArguments(
    engine="transformers", reference="from_pretrained", settings=SETTINGS, fixed={"output_loading_info": True}
)


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
        torch, transformers = _import()
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
        self._target._get_candidate_generator = CountedCandidates.hook(self._target._get_candidate_generator)

    def _draft_length(self) -> int:
        assert isinstance(self._config.spec, DraftModelSpec | NgramSpec)
        return self._config.spec.draft_length

    def _shared_arguments(self, transformers: Any) -> dict[str, Any]:
        """Returns the arguments that both target and draft are loaded with."""
        model = self._config.model
        known = set(inspect.signature(transformers.PreTrainedModel.from_pretrained).parameters) - {"args", "kwargs"}
        known |= {"subfolder", "variant", "quantization_config", "max_memory", "offload_folder", "key_mapping"}
        extra = EXTRA_ARGUMENTS.check(self._engine_config.extra_args, known | set(SETTINGS), transformers.__version__)
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
        # transformers fills missing tensors with random numbers, and only warns.
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
        """Returns None: every step reports its own counts."""
        return None

    def read_back(self, sampling: RequestSampling) -> Mapping[str, Any]:
        """Returns the sampling as GenerationConfig holds it. torch's generator, one per process, takes any seed.

        Raises:
            ConfigError: transformers refuses a value.
            EngineUnavailableError: torch or transformers is missing.
        """
        _, transformers = _import()
        try:
            made = transformers.GenerationConfig(**_generation_options(sampling))
        except ValueError as error:
            raise ConfigError(f"sampling: transformers refuses it: {first_line(error)}") from None
        return {
            "max_new_tokens": made.max_new_tokens,
            "min_new_tokens": made.min_new_tokens or 0,
            "temperature": made.temperature if made.do_sample else 0.0,
            "top_p": made.top_p,
            "top_k": made.top_k,
            "seed": sampling.seed,
            "stop_token_ids": made.eos_token_id or (),
        }

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
            differences=differences(self._asked_and_loaded()),
        )

    def _asked_and_loaded(self) -> Iterator[tuple[str, Any, Any]]:
        """Yields the setting, the value that was asked for and the one that the models have."""
        for model in filter(None, (self._target, self._draft)):
            yield "model.dtype", self._config.model.dtype, model.dtype
            yield (
                "engine.attn_implementation",
                self._engine_config.attn_implementation,
                model.config._attn_implementation,
            )
        if self._draft is not None:
            yield "spec.draft_length", self._draft_length(), self._draft.generation_config.num_assistant_tokens

    async def stop(self) -> None:
        """Frees the models."""
        self._target = self._draft = None
        self._thread.shutdown(wait=False)

    async def stream(self, request: GenerationRequest) -> AsyncIterator[Chunk]:
        """Yields the prefill's chunk, then one chunk per decode step, as the generation loop emits them.

        Raises:
            EngineError: `generate` failed.
        """
        steps = StepStream(request, asyncio.get_running_loop())
        generation = self._thread.submit(self._generate, request, steps)
        generation.add_done_callback(steps.end)
        try:
            async for chunk in steps:
                yield chunk
        finally:
            steps.cancelled = True
            # The thread must be idle before the next request starts.
            await asyncio.gather(asyncio.wrap_future(generation), return_exceptions=True)

    def _generate(self, request: GenerationRequest, steps: StepStream) -> None:
        torch, transformers = _import()
        sampling, device = request.sampling, self._target.device
        options = _generation_options(sampling)
        if sampling.temperature > 0:
            torch.manual_seed(sampling.seed)
        spec = self._config.spec
        if isinstance(spec, NgramSpec):
            options |= {"prompt_lookup_num_tokens": spec.draft_length, "max_matching_ngram_size": spec.ngram_max}
        input_ids = torch.tensor([request.prompt_token_ids], device=device)
        self._target._specdec_steps = steps  # where the candidate hook of this request reports
        with contextlib.suppress(CancelledGenerationError):
            self._target.generate(
                input_ids,
                attention_mask=torch.ones_like(input_ids),
                generation_config=transformers.GenerationConfig(**options),
                assistant_model=self._draft,
                streamer=steps,
            )


def _import() -> tuple[Any, Any]:
    """Returns torch and transformers.

    Raises:
        EngineUnavailableError: one is missing.
    """
    try:
        import torch
        import transformers
    except ImportError as error:
        raise EngineUnavailableError(
            f"engine=transformers needs torch and transformers ({error}); install specdec-bench[transformers]"
        ) from None
    return torch, transformers


def _generation_options(sampling: RequestSampling) -> dict[str, Any]:
    """Returns a request's arguments of GenerationConfig."""
    options: dict[str, Any] = {
        "max_new_tokens": sampling.max_new_tokens,
        "min_new_tokens": sampling.min_new_tokens or None,
        "eos_token_id": list(sampling.stop_token_ids) or None,
        "pad_token_id": 0,  # never used with one request a batch; unset, generate warns
        "do_sample": sampling.temperature > 0,
        "use_cache": True,
    }
    if sampling.temperature > 0:
        options |= {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
    return options


@contextlib.contextmanager
def _loading(path: str) -> Iterator[None]:
    """Turns any error of transformers on a checkpoint's files into one line that names the checkpoint."""
    try:
        yield
    except Exception as error:  # safetensors, json, torch and remote code raise what they like
        raise EngineError(f"{path}: transformers cannot load it: {named(error)}") from error
