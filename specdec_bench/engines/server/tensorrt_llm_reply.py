"""Takes in the event stream that TensorRT-LLM's server answers a completion with.

Written from the source of trtllm-serve; it was not run. With `detokenize` off an event has token ids. Each event has
`avg_decoded_tokens_per_iter`, the tokens so far / the engine steps so far, the prefill's included.

Source: tensorrt_llm/serve/postprocess_handlers.py, completion_stream_post_processor, at
01bf19231d29d8f0766e31c117d1cf39ed00d3d5.
"""

from typing import Any

import msgspec

from specdec_bench.engines.server.http import error_message
from specdec_bench.engines.server.reply import Reply
from specdec_bench.engines.server.steps import Steps, plain_steps, unknown_steps
from specdec_bench.errors import EngineError
from specdec_bench.records.request import AcceptanceCounters, RequestMade


class Choice(msgspec.Struct):
    """One completion's share of an event."""

    token_ids: list[int] | None = None
    finish_reason: str | None = None
    avg_decoded_tokens_per_iter: float | None = None


class Usage(msgspec.Struct):
    """A request's tokens, as the server counts them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class Event(msgspec.Struct):
    """One event of the stream."""

    choices: list[Choice] = []
    usage: Usage | None = None
    error: Any = None


_DECODER = msgspec.json.Decoder(Event)


class TensorRTLLMReply(Reply):
    """What has come of one request to /v1/completions."""

    NO_TOKEN_IDS = "TensorRT-LLM does since 1.0 (detokenize=false)"

    def __init__(self) -> None:
        super().__init__()
        self.num_steps: list[int | None] = []
        """Engine steps up to each event, the prefill included; None if the server does not tell."""

    def _take_event(self, data: bytes, now_ns: int) -> None:
        try:
            event = _DECODER.decode(data)
        except msgspec.DecodeError as error:
            raise EngineError(f"the server wrote an event that is no completion: {error}") from None
        if event.error is not None:
            self.error = error_message(data)
        for choice in event.choices:
            if choice.token_ids:
                self.log.note(choice.token_ids, now_ns)
                self.num_steps.append(_steps(len(self.log.token_ids), choice.avg_decoded_tokens_per_iter))
            self.finish_reason = choice.finish_reason or self.finish_reason
        if event.usage is not None:
            self.num_prompt_tokens = event.usage.prompt_tokens
            self.num_output_tokens = event.usage.completion_tokens

    def count(self, *, is_plain: bool) -> tuple[AcceptanceCounters | None, Steps]:
        """Returns a complete request's counts, and its steps. How many drafts there were is not told.

        Raises:
            EngineError: the number of steps cannot be.
        """
        sizes, total = self.log.sizes, self.num_steps[-1] if self.num_steps else None
        if total is None:
            return None, plain_steps(sizes) if is_plain else unknown_steps(sizes)
        if total > sum(sizes) or (is_plain and total != sum(sizes)):
            raise EngineError(
                f"TensorRT-LLM tells {total} engine steps for {sum(sizes)} tokens: it counts steps in another way than "
                "this project knows, or drafts"
            )
        if is_plain:
            return None, plain_steps(sizes)
        self.has_single_steps = self.num_steps == list(range(1, len(sizes) + 1))
        unknown: list[int | None] = [None] * len(sizes)
        if self.has_single_steps:
            unknown[0] = 0  # the prefill verifies nothing
        counters = AcceptanceCounters(num_verify_steps=None, num_accepted=None)
        return counters, Steps(unknown, list(unknown), total - 1)

    @property
    def made(self) -> RequestMade:
        """What TensorRT-LLM told of the request beside its tokens."""
        return RequestMade(num_prompt_tokens=self.num_prompt_tokens)


def _steps(num_tokens: int, mean: float | None) -> int | None:
    """Returns the engine steps of so many tokens.

    Raises:
        EngineError: their mean is that of no whole number of steps.
    """
    if not mean:
        return None
    number = round(num_tokens / mean)
    if number < 1 or round(mean * number) != num_tokens:
        raise EngineError(f"TensorRT-LLM tells avg_decoded_tokens_per_iter={mean} for {num_tokens} tokens")
    return number
