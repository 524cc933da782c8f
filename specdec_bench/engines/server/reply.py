"""What has come of one request's event stream, whichever server writes it."""

from abc import ABC, abstractmethod
from typing import ClassVar

from specdec_bench.engines.server.framing import EventSplitter
from specdec_bench.engines.server.steps import EventLog
from specdec_bench.errors import EngineError
from specdec_bench.records.request import FinishReason, RequestMade


class Reply(ABC):
    """Takes in the events of one request. A kind of server says in `_take_event` how to read one."""

    NO_TOKEN_IDS: ClassVar[str]
    """What the user can do if the server gives no token ids back."""

    def __init__(self) -> None:
        self._splitter = EventSplitter()
        self.log = EventLog()
        self.error: str | None = None
        """Why the server gave the request up."""
        self.finish_reason: str | None = None
        self.num_prompt_tokens: int | None = None
        self.num_output_tokens: int | None = None
        """The server's count; None until it has told it."""
        self.has_single_steps = False
        """Each event is known to be one engine step, even where its drafts are unknown."""

    def take(self, body: bytes, now_ns: int) -> None:
        """Takes in a piece of the body, which reached this process at that time."""
        for data in self._splitter.feed(body):
            if data != b"[DONE]":
                self._take_event(data, now_ns)

    @abstractmethod
    def _take_event(self, data: bytes, now_ns: int) -> None:
        """Takes in one event.

        Raises:
            EngineError: it is none of this kind of server's.
        """

    @property
    @abstractmethod
    def made(self) -> RequestMade:
        """What the server told of the request beside its tokens."""

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
        if self.num_output_tokens is None:
            raise EngineError("the server's stream ended without the event that counts its tokens")
        if not self.log.token_ids:
            raise EngineError(f"the server gives no token ids back; {self.NO_TOKEN_IDS}")
        if self.num_output_tokens != len(self.log.token_ids):
            raise EngineError(f"the server counts {self.num_output_tokens} tokens, and {len(self.log.token_ids)} came")
        return "stop" if self.finish_reason == "stop" else "length"
