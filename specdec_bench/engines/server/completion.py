"""Takes in the event stream that vLLM answers a completion with."""

from typing import Any

import msgspec

from specdec_bench.engines.server.http import error_message
from specdec_bench.engines.server.reply import Reply
from specdec_bench.errors import EngineError
from specdec_bench.records.request import RequestMade, ServerTimes


class Choice(msgspec.Struct):
    """One completion's share of an event."""

    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None
    finish_reason: str | None = None


class Usage(msgspec.Struct):
    """A request's tokens, as the server counts them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class Drafts(msgspec.Struct):
    """A request's drafts. A reply of one token, and one whose steps never drafted, have no lists."""

    num_spec_steps: int = 0
    num_accepted_draft_tokens: int = 0
    num_draft_tokens: int = 0
    num_spec_tokens: int | None = None
    acceptance_histogram: list[int] = []
    per_step_accepted: list[int] | None = None
    per_step_drafted: list[int] | None = None


class RequestMetrics(msgspec.Struct):
    """What the last event has of a request."""

    time_to_first_token_ms: float | None = None
    queue_time_ms: float | None = None
    speculative_decoding: Drafts | None = None


class Event(msgspec.Struct):
    """One event of the stream."""

    choices: list[Choice] = []
    usage: Usage | None = None
    metrics: RequestMetrics | None = None
    error: Any = None


_DECODER = msgspec.json.Decoder(Event)


class CompletionReply(Reply):
    """What has come of one request to /v1/completions."""

    NO_TOKEN_IDS = "vLLM does since 0.20 (return_token_ids)"

    def __init__(self) -> None:
        super().__init__()
        self.drafts: Drafts | None = None
        self.times = ServerTimes()

    def _take_event(self, data: bytes, now_ns: int) -> None:
        try:
            event = _DECODER.decode(data)
        except msgspec.DecodeError as error:
            raise EngineError(f"the server wrote an event that is not a completion: {error}") from None
        if event.error is not None:
            self.error = error_message(data)
        for choice in event.choices:
            if choice.prompt_token_ids is not None:
                self.num_prompt_tokens = len(choice.prompt_token_ids)
            if choice.token_ids:
                self.log.note(choice.token_ids, now_ns)
            self.finish_reason = choice.finish_reason or self.finish_reason
        if event.usage is not None:
            self.num_output_tokens = event.usage.completion_tokens
        if (metrics := event.metrics) is not None:
            self.drafts = metrics.speculative_decoding
            self.times = ServerTimes(queue_ms=metrics.queue_time_ms, ttft_ms=metrics.time_to_first_token_ms)

    @property
    def made(self) -> RequestMade:
        """What vLLM told of the request beside its tokens."""
        return RequestMade(num_prompt_tokens=self.num_prompt_tokens, server_times=self.times)
