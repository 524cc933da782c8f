"""What the parent and the measuring process tell each other."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from specdec_bench.archive.redact import Secrets
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.records.checkpoint import Checkpoint
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
    environment: dict[str, Any]
    checkpoints: dict[str, Checkpoint]
    clock: dict[str, Any]
    engine_start_s: float
    """Seconds that starting took; of the first start where the engine is reused."""
    engine_reused: bool
    dropped: dict[str, int]
    """Conversations that do not fit the model's context from the first, by id: the tokens that they need."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """From the child, a few times a second."""

    phase: Literal["warmup", "measure"]
    finished: int
    failed: int
    skipped: int
    total: int
    in_flight: int
    """Requests that the engine has been given and has not ended."""
    output_tokens: int
    decoded_tokens: int
    decode_steps: int
    elapsed_s: float


@dataclass(frozen=True, kw_only=True)
class Done:
    """From the child: every record is on disk."""

    interrupted: bool
    num_finished: int
    num_failed: int
    num_skipped: int
    first_error: str | None
    engine_totals: AcceptanceCounters | None
    client_lateness: Lateness | None


@dataclass(frozen=True, kw_only=True)
class Failed:
    """From the child: an error as the class of errors.py that it is, and its message."""

    error: str
    message: str
