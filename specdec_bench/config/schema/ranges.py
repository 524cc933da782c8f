"""The bounds of every number and text, declared beside the field and checked in one place.

`draft_length: Annotated[int, DRAFT_LENGTH] = 3` says the type and the bounds. They hold for each entry of a list or
mapping too, and null is always let pass: the type says whether it may be null.
"""

import functools
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, ClassVar, get_args, get_origin, get_type_hints

from omegaconf import MISSING

from specdec_bench.errors import ConfigError


@dataclass(frozen=True)
class Range:
    """What a number may be."""

    least: float
    most: float
    reason: str = ""
    """What gives the upper bound, where that is not plain."""
    excludes_least: bool = False
    excludes_most: bool = False

    def __str__(self) -> str:
        """Returns it as mathematics writes it: (0, 1]."""
        opening, closing = "(" if self.excludes_least else "[", ")" if self.excludes_most else "]"
        return f"{opening}{self.least:,}, {self.most:,}{closing}"

    def check(self, key: str, value: float) -> None:
        """Raises ConfigError unless the value, which is a number, lies within the bounds."""
        is_high_enough = value > self.least if self.excludes_least else value >= self.least
        is_low_enough = value < self.most if self.excludes_most else value <= self.most  # both are false of a nan
        if isinstance(value, float):
            wrong = f"must lie in {self}"
        else:
            wrong = f"must be at least {self.least:,}" if not is_high_enough else f"must be at most {self.most:,}"
        reason = f"; {self.reason}" if self.reason and value >= self.most else ""
        require(is_high_enough and is_low_enough, key, value, wrong + reason)


CONTEXT = Range(1, 2**24, "no model has a longer context")
"""Tokens of one request."""
CONTEXT_OR_NONE = Range(0, 2**24, "no model has a longer context")
DRAFT_LENGTH = Range(1, 1024, "a verify step runs so many tokens of every request through the target at once")
DRAFT_LENGTH_OR_NONE = Range(0, 1024, "a verify step runs so many tokens of every request through the target at once")
"""K."""
NGRAM = Range(1, 1024, "longer ones hardly occur twice in a text")
TREE_TOKENS = Range(2, 65_536, "a verify step runs so many tokens of every request through the target at once")
TOKEN_ID = Range(0, 2**31 - 1, "token ids have 31 bits")
VOCABULARY = Range(2, 2**31, "token ids have 31 bits")
CONVERSATIONS = Range(1, 10_000_000, "the prompts of a run are held in memory")
CONCURRENCY = Range(1, 65_536, "no engine holds more requests at once")
CLIENTS = Range(1, 64, "64 clients take 1,638,400 events per second, more than servers send")
TIMES = Range(1, 1_000_000, "as many would not end in any time that can be waited for")
TIMES_OR_NONE = Range(0, 1_000_000, "as many would not end in any time that can be waited for")
NTH_REQUEST = Range(0, 2**31 - 1, "no run has so many requests")
SEED = Range(0, 2**63 - 1, "tables hold integers of 64 bits")
GPUS = Range(1, 1024, "no engine spans more GPUs")
THREADS = Range(1, 1024, "no machine has more cores")
GPU_LAYERS = Range(0, 10_000, "no model has more layers")
MEMORY_GIB = Range(1, 65_536, "no machine has more memory")
MILLISECONDS = Range(0, 600_000, "ten minutes; longer is a hang")
TIMEOUT_S = Range(0, 604_800, "a week; null waits for ever", excludes_least=True)
RATE = Range(1e-4, 100_000, "no client sends more in a second")
"""Conversations per second."""
DURATION_S = Range(0, 86_400, "a day")
WINDOW_S = Range(0, 86_400, "a day", excludes_least=True)
OBJECTIVE_MS = Range(0, 86_400_000, "a day", excludes_least=True)
PRICE = Range(0, 1e9, "nothing costs so much")
SEEDS = Range(3, 1000, "no machine has the time")
TOLERANCE = Range(0.001, 1)
TURNS = Range(1, 10_000_000, "the records of a run are read at once")
SPEED = Range(1e-4, 10_000, "the trace was recorded at 1")
PROBABILITY = Range(0, 1)
SHARE = Range(0, 1, excludes_least=True)
PROPER_SHARE = Range(0, 1, excludes_least=True, excludes_most=True)
ACCEPTANCE_LENGTH = Range(1, 1025, "it is at most spec.draft_length + 1")
TOKENS_PER_VERIFY_STEP = Range(1, 1026, "it is at most spec.draft_length + 2, in replies of one step")

MOST_ENTRIES = 1024
"""Of a list or mapping. Stop tokens are looked for at every token; nothing else has as many."""
MOST_CHARACTERS = 4096
"""Of a name or path: what Linux allows a path."""


@dataclass(frozen=True)
class FreeText:
    """Marks what is no name or path: a text of any length, in several lines; or another project's settings."""


@dataclass(frozen=True)
class Rows:
    """Marks a list of rows: each has a number for each column, within the column's bounds."""

    columns: tuple[tuple[str, Range], ...]
    """Name and bounds of each column."""

    def check(self, key: str, rows: list[list[int]]) -> None:
        """Raises ConfigError unless there are rows, none too many, and each has all columns."""
        require(0 < len(rows) <= MOST_ENTRIES, key, rows, f"has {len(rows):,} rows; give 1 to {MOST_ENTRIES:,}")
        names = ", ".join(name for name, _ in self.columns)
        for row in rows:
            require(len(row) == len(self.columns), key, row, f"has {len(row)} numbers; a row is [{names}]")
            for (name, bound), value in zip(self.columns, row, strict=True):
                bound.check(f"{key}: {name}", value)


@dataclass(kw_only=True)
class Bounded:
    """An option of a group: whatever its fields hold lies within the bounds that they declare."""

    GROUP: ClassVar[str] = ""

    def __post_init__(self) -> None:
        check_bounds(self, self.GROUP)


@functools.cache
def bounds(schema: type) -> dict[str, Range | FreeText | Rows | None]:
    """Returns by field of a dataclass the bounds that it declares."""
    hints = get_type_hints(schema, include_extras=True)
    found: dict[str, Range | FreeText | Rows | None] = {}
    for declared in fields(schema):
        hint = hints[declared.name]
        metadata = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
        found[declared.name] = next((item for item in metadata if isinstance(item, Range | FreeText | Rows)), None)
    return found


def check_bounds(config: Any, group: str) -> None:
    """Refuses numbers, texts and lists beyond their bounds, and another name than the option's own.

    Args:
        config: an option's dataclass.
        group: the group that it is an option of, as overrides name it.

    Raises:
        ConfigError: for the first of them, naming it, its value and the bounds.
    """
    schema: type = type(config)
    fixed, given = getattr(schema, "name", MISSING), getattr(config, "name", MISSING)
    require(
        fixed in (MISSING, given),
        f"{group}.name",
        given,
        f"is fixed by {group}={fixed}; choose another option by {group}=NAME",
    )
    for name, bound in bounds(schema).items():
        if not isinstance(bound, FreeText):
            _check(f"{group}.{name}" if group else name, getattr(config, name), bound)


def _check(key: str, value: Any, bound: Range | Rows | None, *, is_entry: bool = False) -> None:
    """Checks a field's value, or each of its entries. Other groups' options have checked themselves."""
    if isinstance(bound, Rows):
        if value is not None:
            bound.check(key, value)
        return
    # OmegaConf lets a list through as an entry of a list of numbers or texts.
    require(not is_entry or not isinstance(value, list), key, value, "is a list within the list; write one list")
    if isinstance(value, list | dict):
        fix = f"has {len(value):,} entries; give at most {MOST_ENTRIES:,}"
        require(len(value) <= MOST_ENTRIES, key, value, fix)
        for name, entry in value.items() if isinstance(value, dict) else ((None, entry) for entry in value):
            _check(key if name is None else f"{key}.{name}", entry, bound, is_entry=True)
    elif is_dataclass(value) and not isinstance(value, Bounded):
        check_bounds(value, key)
    elif isinstance(value, str):
        _check_text(key, value)
    elif bound is not None and value is not None:
        bound.check(key, value)


def _check_text(key: str, value: str) -> None:
    """Refuses what no name and no path is: it would break a line, a file name or an archive."""
    fix = f"has {len(value):,} characters; a name or path has at most {MOST_CHARACTERS:,}"
    require(len(value) <= MOST_CHARACTERS, key, value, fix)
    bad = next((character for character in value if ord(character) < 32 or ord(character) == 127), None)
    require(bad is None, key, repr(value), "a name or path has no control characters; take them out")
    is_unicode = not any(0xD800 <= ord(character) <= 0xDFFF for character in value)
    require(is_unicode, key, ascii(value), "is not UTF-8; rename it")


def require(condition: bool, key: str, value: object, fix: str) -> None:
    """Raises ConfigError in the one form that all checks share: the key, the value, what is wrong or what to do."""
    if not condition:
        raise ConfigError(f"{shortened(key)}={shortened(value)}: {fix}")


def shortened(value: object, most: int = 120) -> str:
    """Returns a value as a message can quote it."""
    text = str(value)
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"
