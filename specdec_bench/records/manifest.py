"""manifest.json: what was asked for, with what it ran, and how it ended."""

import msgspec
from msgspec import UNSET, UnsetType

from specdec_bench.records.checkpoint import Checkpoint
from specdec_bench.records.energy import Energy
from specdec_bench.records.json_types import Json
from specdec_bench.records.options import integer_option
from specdec_bench.records.request import AcceptanceCounters, Record, RunStatus
from specdec_bench.records.unused import UnusedTree


class Difference(Record, frozen=True, kw_only=True):
    """A setting of which the engine made something else."""

    name: str
    """The project's, as in an override."""
    asked: Json
    got: Json


class EngineDescription(Record, frozen=True, kw_only=True):
    """What an engine really runs with, told once it has started. Goes into the manifest."""

    arguments: dict[str, Json]
    """As passed to the engine, in its own spelling."""
    resolved: dict[str, Json]
    """The engine's full configuration after its defaults."""
    max_seq_len: int | None
    """Prompt and output tokens that one request can hold; `None`: no limit."""
    num_accelerators: int
    """0 on a CPU."""
    reproducible: bool
    """The same request gives the same tokens in every run, whatever else is in flight."""
    runner: str | None = None
    """Which of its implementations of the model's loop the engine chose, as vLLM's V1 and V2; `None`: it has one, or
    does not tell."""
    synthetic: str | None = None
    """Why the metrics are not those of a real model, if they are not."""
    differences: tuple[Difference, ...] = ()
    """Settings of which the engine made something else, once it had started."""
    is_elsewhere: bool = False
    """Whether it may run on another machine."""
    claimed: tuple[str, ...] = ()
    """Settings that a server which runs already does not tell. That it runs with them is the user's claim."""
    notes: tuple[str, ...] = ()
    """What else distorts or limits the metrics; summaries repeat them as warnings."""


class ArchivedEngine(Record, frozen=True, kw_only=True):
    """An `EngineDescription` as archived. No field is set before the engine has started, or by another tool's run."""

    arguments: dict[str, Json] | UnsetType = UNSET
    resolved: dict[str, Json] | UnsetType = UNSET
    max_seq_len: int | UnsetType | None = UNSET
    num_accelerators: int | UnsetType = UNSET
    reproducible: bool | UnsetType = UNSET
    runner: str | UnsetType | None = UNSET
    synthetic: str | UnsetType | None = UNSET
    differences: tuple[Difference, ...] | UnsetType = UNSET
    is_elsewhere: bool | UnsetType = UNSET
    claimed: tuple[str, ...] | UnsetType = UNSET
    notes: tuple[str, ...] | UnsetType = UNSET
    start_s: float | UnsetType = UNSET
    """Seconds that it took to start; if it was reused, those of its first start."""
    reused: bool | UnsetType = UNSET
    """Whether an earlier cell started it."""

    @property
    def has_started(self) -> bool:
        """Whether the engine started."""
        return self.arguments is not UNSET


class ArchivedDataset(Record, frozen=True, kw_only=True):
    """The prompts of a run and their source. Earlier releases and other tools' runs lack some fields."""

    name: str | UnsetType = UNSET
    sha256: str | UnsetType = UNSET
    """Of the selected prompts."""
    num_prompts: int | UnsetType = UNSET
    num_turns: int | UnsetType = UNSET
    categories: dict[str, int] | UnsetType = UNSET
    """The number of prompts of each."""
    num_rows: int | UnsetType = UNSET
    """In the source."""
    num_usable: int | UnsetType = UNSET
    """Prompts that the rows make."""
    num_of_categories: int | UnsetType | None = UNSET
    """Those of the chosen categories; None where none was chosen."""
    num_of_length: int | UnsetType | None = UNSET
    """Those of the lengths that were asked for; None where none was."""
    num_turns_cut: int | UnsetType = UNSET
    """Turns beyond `dataset.num_turns`."""
    unused: UnusedTree | UnsetType = UNSET
    """What of the source is not used; see `specdec_bench.records.unused`."""
    dropped: dict[str, int] | UnsetType = UNSET
    """Conversations whose first request does not fit the model's context, by id, with the tokens that they need. Known
    once the engine has started."""


class ImportedFrom(Record, frozen=True, kw_only=True):
    """The tool that measured an imported run."""

    tool: str
    file: str
    sha256: str
    """Of the file."""
    notes: tuple[str, ...]
    """What the file does not tell."""


class Lateness(Record, frozen=True, kw_only=True):
    """How late the measuring loop was at wake-ups that it had asked for, over the measured window."""

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    mean_ms: float | None = None
    """`None` in archives of 0.1.0's first runs."""


class LoadLabel(Record, frozen=True, kw_only=True):
    """What names a load in tables and plots, whichever it is, and what it leaves open."""

    axis: str
    """The field of `load` that says how much load there is: concurrency, rate."""
    value: int | float | None
    """Of that field."""
    title: str
    """What it counts, as a plot's axis has it: requests in flight."""
    unit: str
    """The same in few words: in flight."""
    max_in_flight: int | None
    """Requests in flight all the time, under a closed load; `None` under an open one, whatever limit it has."""

    @property
    def text(self) -> str:
        """How much load there is: 16 in flight."""
        return f"{amount(self.value)} {self.unit}"


def amount(value: int | float | None) -> str:
    """Returns how much load there is as a person writes it: 20 for 20.0."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


class Manifest(Record, frozen=True, kw_only=True):
    """manifest.json: what was asked for, with what it ran, and how it ended. Written first, replaced whole."""

    schema_version: int
    run_id: str
    status: RunStatus
    created_utc: str
    """ISO 8601, when the run directory was claimed."""
    command: tuple[str, ...]
    overrides: tuple[str, ...]
    config: dict[str, Json]
    """The resolved experiment; the same as config.yaml."""
    project: dict[str, Json]
    """Version, git commit, whether the tree was dirty."""
    load: LoadLabel | None = None
    """`None` in archives of before, where every load was closed; see `label_of_load`."""
    cell_id: str | None = None
    """A hash of all that was asked for; see `specdec_bench.config.identity`."""
    baseline_id: str | None = None
    """The `cell_id` of the plain cell that this one is compared with; its own, if it is that cell."""
    environment_id: str | None = None
    """A hash of the hardware and the installed versions that the metrics depend on."""
    finished_utc: str | None = None
    environment: dict[str, Json] = msgspec.field(default_factory=dict)
    """Hardware and installed versions, read by the process that measures."""
    checkpoints: dict[str, Checkpoint] = msgspec.field(default_factory=dict)
    """By role: target, draft, tokenizer."""
    dataset: ArchivedDataset = ArchivedDataset()
    engine: ArchivedEngine = ArchivedEngine()
    clock: dict[str, Json] = msgspec.field(default_factory=dict)
    """`monotonic_ns` and `utc` read together at the start of measuring."""
    engine_totals: AcceptanceCounters | None = None
    """The engine's counters over the measured window, where it has some: the source, or a second one to check by."""
    client_lateness: Lateness | None = None
    """Of the process that sent the requests, of the latest of several; None where it was not measured."""
    num_clients: int | None = None
    """Processes that sent the requests, which `load.clients=auto` leaves open; None in earlier archives, which had
    one."""
    energy: Energy | None = None
    """What the accelerators took over the measured window; None if the engine uses none."""
    synthetic: str | None = None
    """Why the metrics are not those of a real model; stamped on every table and plot."""
    replay_of: str | None = None
    imported: ImportedFrom | None = None
    """None for the project's own runs."""
    error: str | None = None


def label_of_load(manifest: Manifest) -> LoadLabel:
    """Returns what names the run's load. Archives of before have closed loads alone, and do not say so."""
    if manifest.load is not None:
        return manifest.load
    concurrency = integer_option(manifest.config, "load", "concurrency")
    return LoadLabel(
        axis="concurrency",
        value=concurrency,
        title="requests in flight",
        unit="in flight",
        max_in_flight=concurrency,
    )
