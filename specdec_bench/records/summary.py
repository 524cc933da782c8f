"""summary.json: every metric of a run. `specdec_bench.metrics.summary` computes it; undefined is None.

Fields have defaults where a run of an earlier release lacks them.
"""

import msgspec
from msgspec import UNSET, UnsetType

from specdec_bench.records.request import AcceptanceSource, Record, RunStatus
from specdec_bench.records.unused import UnusedTree


class Distribution(Record, frozen=True, kw_only=True):
    """Describes a sample."""

    count: int = 0
    mean: float | None = None
    std: float | None = None
    """Sample standard deviation."""
    min: float | None = None
    p25: float | None = None
    p50: float | None = None
    p75: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None


class DatasetCounts(Record, frozen=True, kw_only=True):
    """How the prompts came out of their source."""

    num_rows: int | None = None
    num_usable: int | None = None
    num_prompts: int | None = None
    num_turns_cut: int | None = None
    unused: UnusedTree | None = None
    """What of the source was not used, with the first row numbers; see `specdec_bench.records.unused`."""


class RequestCounts(Record, frozen=True, kw_only=True):
    """How the requests of a run ended."""

    finished: int
    failed: int
    skipped: int
    """They did not fit the model's context."""
    interrupted: int
    warmup: int
    """In no metric."""
    conversations: int = 0
    """Those of finished requests."""
    skipped_prompts: tuple[str, ...] = ()
    """Ids of conversations that outgrew the model's context."""
    preempted: int | None = None
    """Finished requests that the engine preempted. None: it does not tell."""
    preemptions: int | None = None
    """How often, in all."""


class PooledAcceptance(Record, frozen=True, kw_only=True):
    """Acceptance from sums over requests."""

    output_tokens: int
    decode_steps: int | None
    verify_steps: int | None
    proposed: int | None
    accepted: int | None
    truncated_steps: int | None
    acceptance_length: float | None
    acceptance_length_drafted: float | None
    draft_acceptance_rate: float | None
    acceptance_joint: list[float | None] | None
    acceptance_conditional: list[float | None] | None
    acceptance_histogram: list[int] | None


class MeanAcceptance(Record, frozen=True, kw_only=True):
    """Means over requests, or over conversations, of what each has by itself."""

    acceptance_length: float | None
    acceptance_length_drafted: float | None
    draft_acceptance_rate: float | None
    acceptance_joint: list[float | None] | None
    acceptance_conditional: list[float | None] | None
    acceptance_histogram: list[float | None] | None


class CategoryAcceptance(Record, frozen=True, kw_only=True):
    """Acceptance of the requests of one category."""

    num_requests: int
    pooled: PooledAcceptance
    macro: MeanAcceptance
    macro_by_conversation: MeanAcceptance


class AcceptanceTotals(Record, frozen=True, kw_only=True):
    """Counts over a run."""

    decode_steps: int | None
    verify_steps: int | None
    proposed: int | None
    accepted: int | None


class CrossCheck(Record, frozen=True, kw_only=True):
    """What a second source counted."""

    source: AcceptanceSource
    decode_steps: int | None
    verify_steps: int | None
    proposed: int | None
    accepted: int | None
    difference: AcceptanceTotals
    """The pooled counts less these."""


class StepAcceptance(Record, frozen=True, kw_only=True):
    """Acceptance of the verify steps that proposed the same number of drafts."""

    verify_steps: int
    accepted: int
    acceptance_length_drafted: float
    acceptance_joint: list[float | None] | None
    acceptance_conditional: list[float | None] | None
    acceptance_histogram: list[int]


class Acceptance(Record, frozen=True, kw_only=True):
    """How many drafts the target kept."""

    source: AcceptanceSource | None
    """Where the counts come from; None for plain decoding."""
    cross_check: CrossCheck | None = None
    pooled: PooledAcceptance
    macro: MeanAcceptance
    macro_by_conversation: MeanAcceptance
    by_category: dict[str, CategoryAcceptance]
    by_num_proposed: dict[str, StepAcceptance] | UnsetType | None = UNSET
    """By the drafts of a verify step, if the draft length followed the batch. None if they are not reported."""


class Latency(Record, frozen=True, kw_only=True):
    """Distributions of times, in ms."""

    ttft_ms: Distribution
    e2e_ms: Distribution
    tpot_ms: Distribution
    step_time_ms: Distribution
    itl_ms: Distribution
    queue_time_ms: Distribution
    ttft_from_schedule_ms: Distribution = Distribution()
    e2e_from_schedule_ms: Distribution = Distribution()


class Throughput(Record, frozen=True, kw_only=True):
    """Rates per second."""

    output_tps: float | None
    output_tps_steady: float | None
    output_tps_per_gpu: float | None
    output_tps_per_user: float | None
    output_tps_per_request: Distribution = Distribution()
    request_rate: float | None
    output_tokens: int
    duration_s: float | None
    steady_duration_s: float | None
    num_accelerators: int


class Goodput(Record, frozen=True, kw_only=True):
    """How many requests met the stated objectives; None where none was stated."""

    objectives: dict[str, float] = msgspec.field(default_factory=dict)
    """The largest time in ms, by ttft_ms, tpot_ms and e2e_ms."""
    goodput: float | None = None
    share_within_slo: float | None = None
    num_judged: int | None = None
    """Requests that finished or failed."""
    num_within: int | None = None
    """Requests that met every objective."""
    num_missed: dict[str, int] | None = None
    """Finished requests that missed each objective. One may miss several."""
    most_missed: str | None = None
    """The objective that most requests missed; None if none was missed."""


class EnergyUse(Record, frozen=True, kw_only=True):
    """What the accelerators took over the measured window; None where it was not measured."""

    energy_j: float | None = None
    energy_per_token_j: float | None = None
    mean_power_w: float | None = None
    idle_power_w: float | None = None
    """Before the warm-up, with the engine started."""
    is_sampled: bool | None = None
    """Whether an accelerator has no counter of energy, so that its power was sampled."""
    missing: str | None = None
    """Why it was not measured, if the engine uses accelerators."""


class Cost(Record, frozen=True, kw_only=True):
    """What output tokens cost; None where no price is given."""

    per_accelerator_hour: float | None = None
    """As given, in whatever currency."""
    cost_per_million_tokens: float | None = None


class ClientLateness(Record, frozen=True, kw_only=True):
    """How late the measuring loop was, in ms."""

    mean: float | None
    p50: float
    p99: float
    max: float


class Client(Record, frozen=True, kw_only=True):
    """How much the measuring process disturbs the times; None where it was not measured."""

    lateness_ms: ClientLateness | None = None
    saturated: bool | None = None


class ExtraMetric(Record, frozen=True, kw_only=True):
    """A metric of a plugin."""

    value: float | None
    definition: str


class Summary(Record, frozen=True, kw_only=True):
    """summary.json."""

    schema_version: int
    run_id: str
    status: RunStatus
    partial: bool
    """The run did not finish."""
    synthetic: str | None = None
    """Why the metrics are not those of a real model."""
    warnings: tuple[str, ...] = ()
    """What distorts the metrics: of what was asked for, of the checkpoints, of what the engine made of it."""
    dataset: DatasetCounts = DatasetCounts()
    requests: RequestCounts
    prompt_tokens: Distribution = Distribution()
    acceptance: Acceptance
    latency: Latency
    latency_by_category: dict[str, Latency] = msgspec.field(default_factory=dict)
    throughput: Throughput
    slo: Goodput = Goodput()
    energy: EnergyUse = EnergyUse()
    cost: Cost = Cost()
    merged_chunks: int = 0
    """Chunks that may hold several engine steps."""
    merged_share: float | None = None
    joined_chunks: int = 0
    """Chunks that arrived in one read with the one before, and so have its time."""
    joined_share: float | None = None
    client: Client = Client()
    definitions: dict[str, str]
    """The formula of each metric."""
    extra: dict[str, ExtraMetric] | UnsetType = UNSET
    """Metrics of plugins, by name."""
