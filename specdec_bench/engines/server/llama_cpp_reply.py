"""Takes in the event stream that llama.cpp answers /completion with.

Every token is an event of its own, with the request's counts of drafts so far (`timings_per_token`). A step's tokens
come with the counts after that step, so that the counts say where a step begins and what it accepted.
"""

from typing import Any

import msgspec

from specdec_bench.engines.server.http import error_message
from specdec_bench.engines.server.reply import Reply
from specdec_bench.engines.server.steps import Steps, unknown_steps
from specdec_bench.errors import EngineError
from specdec_bench.records.request import AcceptanceCounters, FinishReason, RequestMade, ServerTimes

FINISH = {"limit": "length", "eos": "stop", "word": "stop"}


class Timings(msgspec.Struct):
    """A request's times and counts so far."""

    prompt_ms: float | None = None
    draft_n: int = 0
    """Drafts proposed. Left out while there are none."""
    draft_n_accepted: int = 0


class Bias(msgspec.Struct):
    """One token whose probability the server changes."""

    token: int | None = None


class Settings(msgspec.Struct):
    """How the server took a request."""

    types: str = msgspec.field(name="speculative.types", default="")
    """Of speculation, separated by commas."""
    logit_bias: list[Bias] = []
    """With ignore_eos: the tokens that end a reply."""


class Event(msgspec.Struct):
    """One event of the stream. The last one has `stop`, and no token."""

    tokens: list[int] = []
    stop: bool = False
    stop_type: str | None = None
    tokens_predicted: int | None = None
    tokens_evaluated: int | None = None
    timings: Timings | None = None
    generation_settings: Settings | None = None
    error: Any = None


_DECODER = msgspec.json.Decoder(Event)


class LlamaCppReply(Reply):
    """What has come of one request to /completion."""

    NO_TOKEN_IDS = "llama.cpp does with return_tokens"

    def __init__(self) -> None:
        super().__init__()
        self.proposed: list[int] = []
        """Drafts of each step, the prefill's first."""
        self.accepted: list[int] = []
        self.timings = Timings()
        """Of the last event that had any."""
        self.settings = Settings()
        self.has_step_counts = True
        """Whether every token came with the counts of drafts."""
        self._step_ids: list[int] = []
        self._step_ns = 0

    def _take_event(self, data: bytes, now_ns: int) -> None:
        try:
            event = _DECODER.decode(data)
        except msgspec.DecodeError as error:
            raise EngineError(f"the server wrote an event that is none of llama.cpp's: {error}") from None
        if event.error is not None:
            self.error = error_message(data)
            return
        if event.tokens:
            self._take_token(event, now_ns)
        if event.timings is not None:
            self.timings = event.timings
        if event.stop:
            self._end_step()
            self.num_prompt_tokens, self.num_output_tokens = event.tokens_evaluated, event.tokens_predicted
            self.finish_reason = FINISH.get(event.stop_type or "", event.stop_type)
            self.settings = event.generation_settings or self.settings

    def _take_token(self, event: Event, now_ns: int) -> None:
        now = event.timings
        if now is None:
            self.has_step_counts = False
            now = self.timings
        num_proposed = now.draft_n - self.timings.draft_n
        num_accepted = now.draft_n_accepted - self.timings.draft_n_accepted
        is_same_step = num_proposed == 0 and self._step_ids and len(self._step_ids) <= self.accepted[-1]
        if not is_same_step:
            self._end_step()
            self.proposed.append(num_proposed)
            self.accepted.append(num_accepted)
        elif num_accepted:
            raise EngineError("the server's counts of the request's drafts contradict each other")
        self._step_ids += event.tokens
        self._step_ns = now_ns

    def _end_step(self) -> None:
        """Notes the step whose tokens have come. It has the time of its last one."""
        if self._step_ids:
            self.log.note(self._step_ids, self._step_ns)
            self._step_ids = []

    def check(self) -> FinishReason:
        """Returns why the reply ended.

        Raises:
            EngineError: the reply is not complete, or lacks the ids of some tokens.
        """
        told, came = self.num_output_tokens, len(self.log.token_ids)
        if self.error is None and told is not None and 0 < came < told:
            raise EngineError(
                f"the server left out the ids of {told - came} tokens: llama.cpp's streams have none for a token that "
                "ends inside a character"
            )
        return super().check()

    def count(self, draft_length: int) -> tuple[AcceptanceCounters, Steps]:
        """Returns a complete request's counts, and its steps.

        Raises:
            EngineError: the counts contradict each other.
        """
        told = self.timings
        if not self.has_step_counts:
            totals = AcceptanceCounters(
                num_verify_steps=None, num_accepted=told.draft_n_accepted, num_proposed=told.draft_n
            )
            return totals, unknown_steps(self.log.sizes)
        decode = list(zip(self.proposed, self.accepted, strict=True))[1:]
        pairs = [(proposed, accepted) for proposed, accepted in decode if proposed]
        is_sane = (
            self.proposed[0] == 0
            and all(0 <= accepted <= proposed <= draft_length for proposed, accepted in decode)
            and sum(self.proposed) == told.draft_n
            and sum(self.accepted) == told.draft_n_accepted
        )
        if not is_sane:
            raise EngineError("the server's counts of the request's drafts contradict each other")
        histogram = [0] * (draft_length + 1)
        for _, accepted in pairs:
            histogram[accepted] += 1
        counters = AcceptanceCounters(
            num_verify_steps=len(pairs),
            num_accepted=told.draft_n_accepted,
            num_proposed=told.draft_n,
            histogram=tuple(histogram),
            per_step_proposed=tuple(proposed for proposed, _ in pairs),
            per_step_accepted=tuple(accepted for _, accepted in pairs),
        )
        return counters, Steps(list(self.proposed), list(self.accepted), len(decode))

    @property
    def made(self) -> RequestMade:
        """What llama.cpp told of the request beside its tokens."""
        times = ServerTimes(ttft_ms=self.timings.prompt_ms)
        return RequestMade(num_prompt_tokens=self.num_prompt_tokens, server_times=times)
