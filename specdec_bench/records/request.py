"""What flows through a run: Prompt -> GenerationRequest -> Chunk -> RequestRecord -> Summary.

Plain data without behaviour, engine, Hydra or torch. Every time is an integer of nanoseconds on the
measuring process's monotonic clock (`time.perf_counter_ns`); the manifest ties that clock to UTC once.
"""

from typing import Literal, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

SCHEMA_VERSION = 1


Phase = Literal["warmup", "measure"]


RunStatus = Literal["started", "finished", "failed", "interrupted"]


FinishReason = Literal["stop", "length"]


AcceptanceSource = Literal["engine_request", "engine_total", "stream"]


ErrorKind = Literal["engine_error", "context_overflow", "interrupted", "encoding_error"]
"""The last is a turn that the chat template or the tokenizer does not take."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all records: frozen and keyword-only.

    A msgspec struct rather than a dataclass: reading 100,000 archived requests takes a third of the time.
    """


class RandomTokens(Record, frozen=True, kw_only=True):
    """A request of token ids drawn at random, instead of one of text."""

    num_tokens: int
    seed: int
    """Of the draw, with the prompt's id."""


class Prompt(Record, frozen=True, kw_only=True):
    """One conversation to hold: the user's turns; the model's replies come in between."""

    prompt_id: str
    category: str
    turns: tuple[str, ...]
    system: str | None = None
    max_new_tokens: int | None = None
    """Upper limit on this prompt's output tokens a turn; the smaller of this and the sampling's holds."""
    labels: dict[str, str] | None = None
    """The source's other fields, such as a finer category or a difficulty. Archived, and used in no metric."""
    random_tokens: RandomTokens | None = None
    """What is sent in place of the only turn, which is then empty."""


class RequestSampling(Record, frozen=True, kw_only=True):
    """How the target's next tokens are chosen and when a request ends. Built anew for each request."""

    max_new_tokens: int
    min_new_tokens: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    """0 means no limit."""
    seed: int = 0
    stop_token_ids: tuple[int, ...] = ()
    """Every token that ends the request, the model's own end-of-sequence tokens included. The runner fills
    this in one place, so adapters switch their engine's own end-of-sequence rule off."""


class GenerationRequest(Record, frozen=True, kw_only=True):
    """What an engine needs for one turn: token ids in, token ids out."""

    request_id: str
    prompt_token_ids: tuple[int, ...]
    sampling: RequestSampling


class AcceptanceCounters(Record, frozen=True, kw_only=True):
    """An engine's own counts, of one request or of a whole run. `None`: the engine does not tell.

    Counted before the last step is cut by end-of-sequence or the token limit.
    """

    num_verify_steps: int | None
    num_accepted: int | None
    num_proposed: int | None = None
    """`None` also where the engine pads its proposals, so that the count would be nominal."""
    num_decode_steps: int | None = None
    histogram: tuple[int, ...] | None = None
    """`histogram[j]`: verify steps that accepted exactly j drafts, j = 0..K."""
    per_step_proposed: tuple[int, ...] | None = None
    """One entry a verify step, in order."""
    per_step_accepted: tuple[int, ...] | None = None


class Chunk(NamedTuple):
    """What an engine's stream yields. A tuple, because there is one for every decode step in flight."""

    token_ids: tuple[int, ...] | list[int]
    num_proposed: int | None = None
    """Drafts that this step verified; `None` where a chunk may hold several steps or none is told."""
    num_accepted: int | None = None
    received_ns: int | None = None
    """Set by engines that generate in a thread of this process; otherwise the reader takes the time."""
    finish_reason: FinishReason | None = None
    """Set on the last chunk only."""
    counters: AcceptanceCounters | None = None
    """The engine's counts of this request, on the last chunk only."""
    num_steps: int | None = None
    """1: the chunk is exactly one engine step, even where `num_accepted` is unknown."""
    made: "RequestMade | None" = None
    """What the engine made of the request, on the last chunk only."""


class StepBatch(NamedTuple):
    """Several engine steps of one request, from an adapter that notes them apart: cheaper than a chunk for each.

    `sizes` (tokens), `times_ns`, `num_proposed` and `num_accepted` have one entry a step.
    """

    token_ids: list[int]
    sizes: list[int]
    times_ns: list[int]
    num_proposed: list[int | None]
    num_accepted: list[int | None]
    finish_reason: FinishReason | None = None
    """Set on the request's last batch only."""
    counters: AcceptanceCounters | None = None
    """The engine's counts of this request, on the last batch only."""
    made: "RequestMade | None" = None
    """What the engine made of the request, on the last batch only."""
    is_whole: bool = False
    """All of the request's steps, in place of those of its earlier batches: only its end tells what they accepted."""
    are_exact: bool = True
    """Each entry is one engine step; if not, some may hold several."""


class RequestMade(NamedTuple):
    """What an engine tells of a request beside its tokens. `None`: it does not tell."""

    num_prompt_tokens: int | None = None
    """Of the prompt as the engine had it."""
    num_preemptions: int | None = None
    """How often the request was put off, its KV cache dropped, for lack of room."""
    server_times: "ServerTimes | None" = None


class ServerTimes(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A server's own times of one request. The record's times are the client's."""

    queue_ms: float | None = None
    """Until the request was scheduled."""
    ttft_ms: float | None = None
    """From when it was scheduled to its first token."""


class Step(Record, frozen=True, kw_only=True, gc=False):
    """One chunk of output as received. The first of a request is the prefill's, the others decode steps.

    Where `num_accepted` is known the chunk is exactly one engine step; where it is `None` the chunk may
    hold several merged steps.
    """

    received_ns: int
    num_tokens: int
    num_proposed: int | None = None
    num_accepted: int | None = None


class RequestError(Record, frozen=True, kw_only=True):
    """Why a request did not finish."""

    kind: ErrorKind
    message: str


class RequestRecord(Record, frozen=True, kw_only=True):
    """One turn of one conversation: a line of requests.jsonl. A failed request keeps what it received."""

    request_id: str
    prompt_id: str
    category: str
    turn: int
    """0 for the conversation's first."""
    repeat: int
    """How often the dataset had been run before: 0 .. load.repeats - 1, or more if the load repeats it as needed."""
    phase: Phase
    scheduled_ns: int
    sent_ns: int | None
    """`None`: never sent (it did not fit the model's context, or could not be encoded)."""
    prompt_token_ids: tuple[int, ...]
    output_token_ids: tuple[int, ...] = ()
    steps: tuple[Step, ...] = ()
    steps_are_exact: bool = False
    """Each of `steps` is one engine step, even where `num_accepted` is unknown."""
    counters: AcceptanceCounters | None = None
    acceptance_source: AcceptanceSource | None = None
    """`None` for plain decoding, where nothing is drafted."""
    finish_reason: FinishReason | None = None
    num_preemptions: int | None = None
    """How often the engine put the request off for lack of KV cache; step times hold the wait. `None`: not told."""
    seed: int = 0
    server_times: ServerTimes | msgspec.UnsetType = msgspec.UNSET
    """Unset where no server tells."""
    error: RequestError | None = None
    prompt_length: int | UnsetType = UNSET
    """Tokens of the prompt, where its ids are unknown: in a run of another tool that was imported."""
    output_length: int | UnsetType = UNSET
    """The same of the output."""

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens of the prompt."""
        return len(self.prompt_token_ids) if self.prompt_length is UNSET else self.prompt_length

    @property
    def num_output_tokens(self) -> int:
        """Tokens of the output."""
        return len(self.output_token_ids) if self.output_length is UNSET else self.output_length
