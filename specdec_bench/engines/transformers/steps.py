"""The decode steps of transformers' assisted generation, counted one by one in its own loop."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from concurrent.futures import Future
from typing import Any

from specdec_bench.errors import EngineError, named
from specdec_bench.records.request import Chunk, FinishReason, GenerationRequest


class CancelledGenerationError(Exception):
    """Unwinds `generate` when the reader has gone."""


class StepStream:
    """The streamer that `generate` calls once a step; iterated by the event loop.

    `put` runs in the generating thread and only records numbers. Passing them to the event loop costs one
    append and one wake-up.
    """

    def __init__(self, request: GenerationRequest, loop: asyncio.AbstractEventLoop) -> None:
        self.cancelled = False
        self.drafts: list[int] = []
        """The drafts that the running step verifies; set by the candidate hook."""
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
            raise CancelledGenerationError
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
        """Called by the finished thread. `generate` calls it too, without arguments, to no effect."""
        if generation is not None:
            self._send(generation)

    def _send(self, item: "Chunk | Future[None]") -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody reads any more
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        while isinstance(item := await self._queue.get(), Chunk):
            yield item
        if (error := item.exception()) is not None:
            raise EngineError(f"transformers: {named(error)}") from error


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


class CountedCandidates:
    """Wraps transformers' candidate generator and tells the stream which drafts each step verifies.

    The stock loop verifies drafts in the prefill's forward pass, so its first step is not a plain prefill.
    Here the first pass gets no candidates and emits one token, as in every serving engine.
    """

    def __init__(self, candidates: Any, steps: StepStream) -> None:
        self._candidates = candidates
        self._steps = steps
        self._num_calls = 0
        self.requires_model_outputs = candidates.requires_model_outputs

    @classmethod
    def hook(cls, get_candidate_generator: Any) -> Any:
        """Returns a replacement for the target's `_get_candidate_generator`."""

        def counted(**kwargs: Any) -> "CountedCandidates":
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
            EngineError: the loop and the stream count differently: this release's loop is not the known one.
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
    """Lets prompt lookup propose whatever it finds, regardless of the sampling.

    It runs the target's logits processors over made-up equal logits to see which tokens are forbidden. top-p
    then forbids an arbitrary share of the vocabulary, which loses drafts that the target may accept.
    """
    from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper
    from transformers.generation.candidate_generator import PromptLookupCandidateGenerator

    if isinstance(candidates, PromptLookupCandidateGenerator) and candidates.logits_processor is not None:
        warpers = (TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper)
        kept = [processor for processor in candidates.logits_processor if not isinstance(processor, warpers)]
        candidates.logits_processor = LogitsProcessorList(kept)
