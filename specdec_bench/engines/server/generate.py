"""Takes in the event stream that SGLang answers /generate with."""

from typing import Any

import msgspec

from specdec_bench.engines.server.http import error_message
from specdec_bench.engines.server.reply import Reply
from specdec_bench.errors import EngineError
from specdec_bench.records.request import RequestMade, ServerTimes


class Finish(msgspec.Struct):
    """Why a request is over: `length`, `stop` or `abort`."""

    type: str
    message: str | None = None


class Meta(msgspec.Struct):
    """What an event has of its request. The counts of drafts are in the last event only."""

    finish_reason: Finish | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    """Of all events so far."""
    num_retractions: int | None = None
    queue_time: float | None = None
    forward_entry_time: float | None = None
    prefill_finished_time: float | None = None
    spec_verify_ct: int | None = None
    spec_num_correct_drafts: int | None = None
    spec_accepted_drafts: int | None = None
    """The name of the same in releases before 0.5.16."""
    spec_correct_drafts_histogram: list[int] | None = None
    spec_accept_histogram: list[int] | None = None
    """The name of the same in releases before 0.5.16."""


class Event(msgspec.Struct):
    """One event of the stream."""

    output_ids: list[int] = []
    meta_info: Meta | None = None
    error: Any = None


_DECODER = msgspec.json.Decoder(Event)


class GenerateReply(Reply):
    """What has come of one request to /generate."""

    NO_TOKEN_IDS = "SGLang does since 0.5.11"

    def __init__(self) -> None:
        super().__init__()
        self.meta = Meta()
        """Of the last event."""

    def _take_event(self, data: bytes, now_ns: int) -> None:
        try:
            event = _DECODER.decode(data)
        except msgspec.DecodeError as error:
            raise EngineError(f"the server wrote an event that is none of SGLang's: {error}") from None
        if event.error is not None:
            self.error = error_message(data)
        if (meta := event.meta_info) is None:
            return
        self.meta = meta
        self.num_prompt_tokens = meta.prompt_tokens
        if event.output_ids:
            self._take_ids(event.output_ids, meta.completion_tokens, now_ns)
        if (finish := meta.finish_reason) is not None:
            self.num_output_tokens = meta.completion_tokens
            self.finish_reason = finish.type
            if finish.type == "abort":
                self.error = finish.message or "aborted"

    def _take_ids(self, ids: list[int], num_tokens: int | None, now_ns: int) -> None:
        """Notes the new ones. Without --incremental-streaming-output each event has all ids so far."""
        num_known = len(self.log.token_ids)
        num_new = len(ids) if num_tokens is None else num_tokens - num_known
        if num_new < 0 or len(ids) not in (num_new, num_known + num_new):
            raise EngineError(
                f"the server counts {num_tokens} tokens so far; {num_known} had come, and {len(ids)} came"
            )
        if num_new:
            self.log.note(ids[len(ids) - num_new :], now_ns)

    @property
    def num_accepted(self) -> int | None:
        """Drafts accepted; None if the server does not tell."""
        told = self.meta.spec_num_correct_drafts
        return self.meta.spec_accepted_drafts if told is None else told

    @property
    def histogram(self) -> list[int] | None:
        """Verify steps by the drafts they accepted, up to the most; None if the server does not tell."""
        told = self.meta.spec_correct_drafts_histogram
        return self.meta.spec_accept_histogram if told is None else told

    @property
    def made(self) -> RequestMade:
        """What SGLang told of the request beside its tokens."""
        meta = self.meta
        prefill_s = _difference(meta.prefill_finished_time, meta.forward_entry_time)
        times = ServerTimes(queue_ms=_to_ms(meta.queue_time), ttft_ms=_to_ms(prefill_s))
        return RequestMade(
            num_prompt_tokens=meta.prompt_tokens, num_preemptions=meta.num_retractions, server_times=times
        )


def _difference(end_s: float | None, start_s: float | None) -> float | None:
    return None if end_s is None or start_s is None else end_s - start_s


def _to_ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds
