"""The experiment as a whole, and the dataclass behind every option."""

from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Annotated, ClassVar

from omegaconf import MISSING

from specdec_bench.config.schema import dataset, engine, load, model, sampling, spec, tracking
from specdec_bench.config.schema.cost import Cost
from specdec_bench.config.schema.dataset import (
    DatasetConfig,
)
from specdec_bench.config.schema.engine import EngineConfig
from specdec_bench.config.schema.load import LoadConfig
from specdec_bench.config.schema.model import ModelConfig
from specdec_bench.config.schema.ranges import (
    ACCEPTANCE_LENGTH,
    DRAFT_LENGTH,
    PROPER_SHARE,
    SEED,
    SHARE,
    TIMES_OR_NONE,
    TOKENS_PER_VERIFY_STEP,
    Bounded,
    FreeText,
    Range,
    check_bounds,
)
from specdec_bench.config.schema.sampling import SamplingConfig
from specdec_bench.config.schema.slo import SLO, Capacity
from specdec_bench.config.schema.spec import (
    DraftingSpec,
    SpecConfig,
)
from specdec_bench.config.schema.tracking import TrackingConfig


@dataclass(kw_only=True)
class Expected(Bounded):
    """Published values, which `specdec-bench check` compares the finished run with."""

    GROUP: ClassVar[str] = "expected"

    acceptance_length_drafted: Annotated[float | None, ACCEPTANCE_LENGTH] = None
    """1 + accepted / verify steps, pooled; vLLM calls it mean acceptance length."""
    output_tokens_per_verify_step: Annotated[float | None, TOKENS_PER_VERIFY_STEP] = None
    """Output tokens / verify steps, pooled; SGLang calls it spec_accept_length. It counts the token of each prefill
    too, so it is higher than the acceptance length."""
    acceptance_joint: Annotated[list[float], SHARE] = field(default_factory=list)
    """Of each draft position."""
    spec: Annotated[str | None, FreeText()] = None
    """Method that the values are of; null: of whichever is run."""
    draft_length: Annotated[int | None, DRAFT_LENGTH] = None
    """K that the values are of; acceptance_joint implies it."""
    num_requests: Annotated[int | None, Range(1, 2**31 - 1, "no run has so many")] = None
    """Finished requests that the values are of; a run of fewer or more is not compared."""
    relative_tolerance: Annotated[float, PROPER_SHARE] = 0.05
    joint_tolerance: Annotated[float | None, PROPER_SHARE] = None
    """Of acceptance_joint, where it is another; null takes relative_tolerance."""
    source: Annotated[str, FreeText()] = ""


@dataclass(kw_only=True)
class ExperimentConfig:
    """One cell: one engine configuration, model, dataset, spec method and load."""

    engine: EngineConfig = MISSING
    model: ModelConfig = MISSING
    dataset: DatasetConfig = MISSING
    spec: SpecConfig = MISSING
    load: LoadConfig = MISSING
    sampling: SamplingConfig = MISSING
    seed: Annotated[int, SEED] = 0
    """Draws the subset of prompts and seeds every request's sampling."""
    replicate: Annotated[int, TIMES_OR_NONE] = 0
    """Tells a cell from one that is run again just the same; changes nothing else. Runs of the same cell are compared
    with as many plain ones together: their speedups' intervals hold how much whole runs differ."""
    expected: Expected = field(default_factory=Expected)
    """What the run is known to give elsewhere; changes nothing in how it runs."""
    slo: SLO = field(default_factory=SLO)
    """What every request is to meet; changes nothing in how it runs."""
    cost: Cost = field(default_factory=Cost)
    """What accelerators cost; changes nothing in how it runs."""

    def __post_init__(self) -> None:
        check_bounds(self, "")
        if isinstance(self.engine, EngineConfig):  # it may be missing
            self.engine.check_spec(self.spec)


NO_BASELINE, AUTO = "none", "auto"


class Order(Enum):
    """In what order a sweep runs its cells."""

    engines = "engines"
    """So that as few engines start as can be."""
    replicates = "replicates"
    """One replicate of every cell after another, each with engines of its own, so that a drift of the machine's speed
    falls on all methods alike."""


@dataclass(kw_only=True)
class SweepConfig(ExperimentConfig):
    """What is composed: the experiment, and what a sweep makes of many of them."""

    baseline: str = NO_BASELINE
    """What speculative cells are compared with beside the sweep's own plain cells: none; auto adds the plain cells
    that are missing; or the directory of an archived run or sweep."""
    control: bool = False
    """Runs every plain cell of the sweep once more, to tell floating-point noise from a method that changes the
    output."""
    verbose: bool = False
    """Prints the whole table of each of its cells, instead of a line; changes nothing in how it runs."""
    order: Order = Order.engines
    """In what order its cells run, where they run one after another."""
    capacity: Capacity = field(default_factory=Capacity)
    """How `specdec-bench capacity` searches."""
    tracking: TrackingConfig = MISSING
    """Where finished runs are logged, besides their archives; changes nothing in how they run."""
    objective: str = "tpot_ms_mean"
    """The metric of the sweep's table that a cell gives to a sweeper that optimizes; changes nothing in how it runs."""


OPTIONS: dict[str, dict[str, type]] = {
    "engine": engine.OPTIONS,
    "model": model.OPTIONS,
    "dataset": dataset.OPTIONS,
    "spec": spec.OPTIONS,
    "load": load.OPTIONS,
    "sampling": sampling.OPTIONS,
}
"""The dataclass behind each option: `conf/GROUP/*.yaml` names one as /schema/GROUP/OPTION."""

OPTIONS_AROUND: dict[str, dict[str, type]] = {"tracking": tracking.OPTIONS}
"""The same for the groups that are no part of the experiment and so not of its archive."""


def draft_length(spec: SpecConfig) -> int | None:
    """Returns K, or None for plain decoding."""
    return spec.draft_length if isinstance(spec, DraftingSpec) else None


def may_draft_nothing(spec: SpecConfig) -> bool:
    """Whether K is 0 at some batch size."""
    rows = getattr(spec, "draft_length_by_batch_size", None) or ()
    return any(length == 0 for *_, length in rows)


def field_names(config: object) -> list[str]:
    """Returns the names a user may set on this option, in order."""
    return [f.name for f in fields(config)]  # type: ignore[arg-type]
