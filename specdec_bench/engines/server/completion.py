"""Takes in the event stream that vLLM answers a completion with."""

from typing import Any

import msgspec

from specdec_bench.engines.server.framing import EventSplitter
from specdec_bench.engines.server.http import error_message
from specdec_bench.engines.server.steps import EventLog
from specdec_bench.errors import EngineError
from specdec_bench.records.request import FinishReason, ServerTimes


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


class Reply:
    """What has come of one request's stream."""

    __slots__ = ("_splitter", "drafts", "error", "finish_reason", "log", "num_prompt_tokens", "times", "usage")

    def __init__(self) -> None:
        self._splitter = EventSplitter()
        self.log = EventLog()
        self.usage: Usage | None = None
        self.drafts: Drafts | None = None
        self.times = ServerTimes()
        self.finish_reason: str | None = None
        self.num_prompt_tokens: int | None = None
        self.error: str | None = None

    def take(self, body: bytes, now_ns: int) -> None:
        """Takes in a piece of the body, which reached this process at that time."""
        for data in self._splitter.feed(body):
            if data == b"[DONE]":
                continue
            try:
                event = _DECODER.decode(data)
            except msgspec.DecodeError as error:
                raise EngineError(f"the server wrote an event that is no completion: {error}") from None
            if event.error is not None:
                self.error = error_message(data)
            for choice in event.choices:
                if choice.prompt_token_ids is not None:
                    self.num_prompt_tokens = len(choice.prompt_token_ids)
                if choice.token_ids:
                    self.log.note(choice.token_ids, now_ns)
                self.finish_reason = choice.finish_reason or self.finish_reason
            if event.usage is not None:
                self.usage = event.usage
            if (metrics := event.metrics) is not None:
                self.drafts = metrics.speculative_decoding
                self.times = ServerTimes(queue_ms=metrics.queue_time_ms, ttft_ms=metrics.time_to_first_token_ms)

    def check(self) -> FinishReason:
        """Returns why the reply ended. `[DONE]` proves nothing: a server that fails in mid-reply sends it too.

        Raises:
            EngineError: the reply is not complete, saying why.
        """
        if self.error is not None:
            raise EngineError(f"the server gave the request up: {self.error}")
        if not self._splitter.is_between_events:
            raise EngineError("the server's stream ended in the middle of an event")
        if self.finish_reason not in ("stop", "length"):
            raise EngineError(f"the server ended the request with finish_reason {self.finish_reason}")
        if self.usage is None:
            raise EngineError("the server's stream ended without the event that counts its tokens")
        if not self.log.token_ids:
            raise EngineError("the server gives no token ids back; vLLM does since 0.20 (return_token_ids)")
        if self.usage.completion_tokens != len(self.log.token_ids):
            raise EngineError(
                f"the server counts {self.usage.completion_tokens} tokens, and {len(self.log.token_ids)} came"
            )
        reason: FinishReason = "stop" if self.finish_reason == "stop" else "length"
        return reason
