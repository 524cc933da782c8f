"""The messages between the parent and the measuring process, and between that and the clients that it may have."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from specdec_bench import errors
from specdec_bench.archive.redact import Secrets
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.engines.base import Attachment
from specdec_bench.errors import EngineError, SpecDecBenchError, named
from specdec_bench.records.checkpoint import Checkpoint
from specdec_bench.records.energy import Energy
from specdec_bench.records.json_types import Json
from specdec_bench.records.manifest import EngineDescription, Lateness
from specdec_bench.records.request import AcceptanceCounters, Prompt


@dataclass(frozen=True, kw_only=True)
class RunCell:
    """To the child: measure this cell; start its engine if there is none yet."""

    config: ExperimentConfig
    prompts: list[Prompt]
    run_dir: Path
    secrets: Secrets
    expected_checkpoints: dict[str, Checkpoint] | None = None
    """A replay's archived fingerprints by role; anything else is refused."""


@dataclass(frozen=True)
class Interrupt:
    """To the child: stop measuring, keep what there is."""


@dataclass(frozen=True)
class Shutdown:
    """To the child: stop the engine and exit."""


@dataclass(frozen=True, kw_only=True)
class Started:
    """From the child: the engine is up, and the prompts are encoded."""

    description: EngineDescription
    environment: dict[str, Json]
    checkpoints: dict[str, Checkpoint]
    clock: dict[str, Json]
    engine_start_s: float
    """Seconds that the engine took to start; if it is reused, those of its first start."""
    engine_reused: bool
    num_clients: int
    """Processes that send the requests."""
    dropped: dict[str, int]
    """Conversations whose first request does not fit the model's context, by id: the tokens that they need."""


@dataclass(slots=True, kw_only=True)
class Counts:
    """Running totals of a phase. The measuring loop writes them, and another thread sends them to the parent.

    The last ones are the totals of the run.
    """

    in_flight: int = 0
    """Requests that were given to the engine and have not ended."""
    finished: int = 0
    failed: int = 0
    skipped: int = 0
    """Never sent, because they do not fit the model's context."""
    first_error: str | None = None
    """Of a failed or a skipped request."""
    output_tokens: int = 0
    decode_steps: int = 0
    decoded_tokens: int = 0
    """Output tokens less the prefill's, of the requests whose decode steps are known."""

    @property
    def ended(self) -> int:
        """Requests that have ended, in whatever way."""
        return self.finished + self.failed + self.skipped

    def take_sums(self, parts: "Iterable[Counts]") -> None:
        """Takes the sums of several processes' counts."""
        parts = list(parts)
        for name in (declared.name for declared in fields(self)):
            if name != "first_error":
                setattr(self, name, sum(getattr(part, name) for part in parts))
        self.first_error = self.first_error or next((p.first_error for p in parts if p.first_error is not None), None)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """From the child, a few times a second."""

    phase: Literal["warmup", "measure"]
    counts: Counts
    total: int
    elapsed_s: float


@dataclass(frozen=True, kw_only=True)
class Done:
    """From the child: every record is on disk."""

    interrupted: bool
    counts: Counts
    engine_totals: AcceptanceCounters | None
    client_lateness: Lateness | None
    energy: Energy | None


@dataclass(frozen=True, kw_only=True)
class Failed:
    """From the child: an error, as the name of its class in errors.py and its message."""

    error: str
    message: str

    @classmethod
    def of(cls, error: BaseException) -> "Failed":
        """Returns the message about an exception, or about the first of those that a group of tasks raised."""
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, SpecDecBenchError):
            return cls(error=type(error).__name__, message=str(error))
        return cls(error="EngineError", message=named(error))

    @property
    def error_class(self) -> type[SpecDecBenchError]:
        """The class of the exception to raise in the process that gets the message."""
        found = getattr(errors, self.error, EngineError)
        assert issubclass(found, SpecDecBenchError)
        return found


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """To a client: send your share of this cell's requests to the engine that runs already."""

    config: ExperimentConfig
    prompts: list[Prompt]
    first_token_ids: list[tuple[int, ...]]
    """Of each prompt's first request."""
    stop_token_ids: tuple[int, ...]
    """The model's own end-of-sequence tokens."""
    has_totals: bool
    """Whether the engine has counters of the whole run."""
    attachment: Attachment
    secrets: Secrets
    index: int
    """Of the client, from 0."""
    num_clients: int


@dataclass(frozen=True)
class Ready:
    """From a client: its share can begin."""


@dataclass(frozen=True, kw_only=True)
class Begin:
    """To a client: begin at this time (`time.perf_counter_ns`, which all processes of a machine share)."""

    begins_ns: int


@dataclass(frozen=True, kw_only=True)
class Batch:
    """From a client: what has ended since the last one, and a few times a second its counts."""

    lines: bytes
    """Records, encoded as the archive has them."""
    counts: Counts


@dataclass(frozen=True, kw_only=True)
class Ended:
    """From a client: every record has been sent."""

    lateness: Lateness | None
    failure: Failed | None
