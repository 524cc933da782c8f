"""What report.html shows, as plain data. The page embeds it as JSON and draws everything from it."""

from typing import Literal

from specdec_bench.metrics.breakdown import Group
from specdec_bench.records.interval import Interval
from specdec_bench.records.request import Record
from specdec_bench.report.curves import Panel

Tone = Literal["result", "good", "open", "bad"]


class Statement(Record, frozen=True, kw_only=True):
    """One sentence of the verdict."""

    tone: Tone
    """A result, a good sign, a question that stays open, or a reason for distrust."""
    text: str


class Verdict(Record, frozen=True, kw_only=True):
    """What a reader should take away."""

    speed: tuple[Statement, ...]
    """Which method is the fastest at which load."""
    output: tuple[Statement, ...]
    """Whether the output is the one of plain decoding."""
    distrust: tuple[Statement, ...]
    """What distorts the metrics, or is missing from them."""


class Category(Record, frozen=True, kw_only=True):
    """Acceptance of one category."""

    name: str
    num_requests: int
    acceptance_length: float | None


class Acceptance(Record, frozen=True, kw_only=True):
    """How many drafts a cell's target kept."""

    source: str | None
    joint: list[float | None]
    conditional: list[float | None]
    by_category: list[Category]
    num_categories: int
    """All of them; `by_category` has those with the most requests."""
    by_turn: list[Group]
    by_context: list[Group]


class Inspected(Record, frozen=True, kw_only=True):
    """One reply, step by step."""

    prompt_id: str
    category: str
    turn: int
    prompt: str
    """The user's turn, which may be cut."""
    text: str
    """May be cut."""
    is_cut: bool
    token_lengths: list[int] | None
    """Characters of each output token; None if the archive has only the whole text."""
    num_prompt_tokens: int
    finish_reason: str | None
    gaps_us: list[int]
    """Time of each step since the one before; of the first, since the request was sent."""
    num_tokens: list[int]
    num_proposed: list[int | None]
    num_accepted: list[int | None]


class Cell(Record, frozen=True, kw_only=True):
    """One run."""

    job: int
    name: str
    """As on its curve: method, draft length, and the conditions that vary."""
    folder: str
    """Relative to the folder that the report is of."""
    spec: str
    draft_length: int | None
    engine: str
    model: str
    dataset: str
    load: str
    load_value: float | None
    replicate: int
    status: str
    note: str
    """Its error, or why it is not compared."""
    num_finished: int | None
    num_failed: int | None
    metrics: dict[str, Interval]
    """By the columns of the sweep's table, without those that are undefined."""
    same_output: str
    """Whether its output is that of plain decoding, in words."""
    acceptance: Acceptance | None
    quantiles: dict[str, list[float]]
    """The percentiles in `Report.percentiles` of each time, in ms."""
    settings: dict[str, str]
    """The options that differ between the cells."""
    inspected: list[Inspected]


class Excerpt(Record, frozen=True, kw_only=True):
    """Where the output of a cell and of its plain run part."""

    job: int
    prompt_id: str
    turn: int
    position: int
    """The first output token that differs."""
    baseline_text: str | None
    text: str | None


class Column(Record, frozen=True, kw_only=True):
    """A metric of the table of cells."""

    name: str
    header: str
    better: str | None
    is_shown: bool
    """Shown at first; the others are in what is copied."""


class Command(Record, frozen=True, kw_only=True):
    """A command that repeats what the page shows."""

    purpose: str
    text: str


class Report(Record, frozen=True, kw_only=True):
    """The whole page."""

    title: str
    subtitle: str
    kind: Literal["run", "sweep", "archives"]
    created_utc: str
    version: str
    is_synthetic: bool
    verdict: Verdict
    panels: list[Panel]
    percentiles: list[float]
    columns: list[Column]
    cells: list[Cell]
    excerpts: list[Excerpt]
    configuration: dict[str, str]
    """The options that all cells share."""
    provenance: dict[str, str]
    """What all cells share of versions, hardware and fingerprints."""
    differing_provenance: dict[str, dict[str, list[int]]]
    """By field: each value, and the jobs that have it."""
    commands: list[Command]
    thinned: list[str]
    """What was left out of the page, and by which rule."""
