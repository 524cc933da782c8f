"""What a dataset's source does not use of its rows, by reason and with row numbers, and how that is said.

In the manifest it is `dataset.unused`, with four keys: `rows` (rows of which nothing is used), `parts` (what is left
out, or changed, of rows that are used), `fields` (fields that nothing reads, by name) and `files` (of a folder, by
name). Each holds reasons, and of each `num_rows`, `rows` (such as "3, 8-10") and, where there is more to say,
`examples`. Rows are numbered as in error messages: lines of JSON Lines, else rows; of a folder over all of its files.
"""

from collections.abc import Iterable
from typing import Literal, NotRequired, TypedDict

Kind = Literal["rows", "parts", "fields", "files"]
KINDS: tuple[Kind, ...] = ("rows", "parts", "fields", "files")
MAX_RANGES = 10_000
"""Of row numbers kept for one reason; rows beyond them are counted only."""
MAX_EXAMPLES = 1000
MAX_FIELDS = 100
"""Names of fields kept; a file whose field names are data would have as many as rows."""
OTHER_FIELDS = "(other fields)"
NUM_RANGES_SHOWN = 5
NUM_EXAMPLES_SHOWN = 3


class Reason(TypedDict):
    """The rows of one reason."""

    num_rows: int
    rows: str
    """Such as "3, 8-10"."""
    examples: NotRequired[list[str]]


UnusedTree = dict[Kind, dict[str, Reason]]
"""Reasons by kind and by name."""


class _Reason:
    """The rows of one reason; memory does not grow with their number."""

    def __init__(self) -> None:
        self.num_rows = 0
        self._last_row = 0
        self._ranges: list[list[int]] = []
        self._examples: dict[str, None] = {}

    def add(self, row: int, example: str | None) -> None:
        """Adds a row; rows come in rising order, and one that comes again counts once."""
        if example is not None and len(self._examples) < MAX_EXAMPLES:
            self._examples[example] = None
        if row == self._last_row:
            return
        self.num_rows += 1
        if self._ranges and self._ranges[-1][1] == row - 1 == self._last_row:
            self._ranges[-1][1] = row
        elif len(self._ranges) <= MAX_RANGES:  # one more than is shown, to know that there are more
            self._ranges.append([row, row])
        self._last_row = row

    def as_tree(self) -> Reason:
        ranges = [str(first) if first == last else f"{first}-{last}" for first, last in self._ranges]
        tree: Reason = {"num_rows": self.num_rows, "rows": _first(ranges, MAX_RANGES)}
        if self._examples:
            tree["examples"] = list(self._examples)
        return tree


class Unused:
    """Collects, as a source is read, what it does not use."""

    def __init__(self) -> None:
        self._found: dict[Kind, dict[str, _Reason]] = {kind: {} for kind in KINDS}
        self._inherited: UnusedTree | None = None

    @property
    def num_rows(self) -> int:
        """How many rows are not used at all."""
        return sum(reason["num_rows"] for reason in self.as_tree().get("rows", {}).values())

    def add_row(self, reason: str, row: int, example: str | None = None) -> None:
        """Notes a row that is not used, for one reason."""
        self._add("rows", reason, row, example)

    def add_part(self, reason: str, row: int, example: str | None = None) -> None:
        """Notes something that is left out, or changed, of a row that is used."""
        self._add("parts", reason, row, example)

    def add_fields(self, names: Iterable[str], known: Iterable[str], row: int) -> None:
        """Notes a row's fields that are none of the known ones, which nothing reads."""
        fields = self._found["fields"]
        for name in names:
            if name not in known:
                self._add("fields", name if name in fields or len(fields) < MAX_FIELDS else OTHER_FIELDS, row, None)

    def add_file(self, name: str) -> None:
        """Notes a file of the dataset's folder that is not read."""
        self._found["files"][name] = _Reason()

    def inherit(self, tree: UnusedTree) -> None:
        """Takes over what a prepared file says was not used of its own source."""
        self._inherited = tree

    def as_tree(self) -> UnusedTree:
        """Returns it as plain data, in the shape that the module's docstring says."""
        if self._inherited is not None:
            return self._inherited
        return {
            kind: {name: reasons[name].as_tree() for name in sorted(reasons)} for kind, reasons in self._found.items()
        }

    def _add(self, kind: Kind, reason: str, row: int, example: str | None) -> None:
        self._found[kind].setdefault(reason, _Reason()).add(row, example)


def shorten(tree: UnusedTree) -> UnusedTree:
    """Returns the tree with the first few row numbers and examples of each reason."""
    return {kind: {name: _shorten(reason) for name, reason in reasons.items()} for kind, reasons in tree.items()}


def _shorten(reason: Reason) -> Reason:
    short: Reason = {**reason, "rows": _first(reason["rows"].split(", "), NUM_RANGES_SHOWN)}
    if "examples" in reason:
        short["examples"] = reason["examples"][:NUM_EXAMPLES_SHOWN]
    return short


def describe(tree: UnusedTree, kinds: Iterable[Kind] = KINDS) -> list[str]:
    """Returns one line for each kind of which there is something, with the first few row numbers of each reason."""
    words = {
        "rows": "{:,} ROW{} NOT USED",
        "parts": "ROWS NOT SENT AS THEY ARE",
        "fields": "fields that nothing reads",
        "files": "FILES NOT READ",
    }
    lines = []
    short = shorten(tree)
    for kind in kinds:
        if reasons := short.get(kind):
            num_rows = sum(reason["num_rows"] for reason in reasons.values())
            told = "; ".join(
                _told(repr(name) if kind in ("fields", "files") else name, reason) for name, reason in reasons.items()
            )
            lines.append(f"{words[kind].format(num_rows, 'S' * (num_rows > 1))}: {told}")
    return lines


def _told(name: str, reason: Reason) -> str:
    examples = f", such as {', '.join(reason['examples'])}" if reason.get("examples") else ""
    if not reason["num_rows"]:
        return name
    rows = "row" if reason["num_rows"] == 1 else f"{reason['num_rows']:,} rows:"
    return f"{name}{examples} ({rows} {reason['rows']})"


def _first(ranges: list[str], most: int) -> str:
    return ", ".join([*ranges[:most], *(["..."] if len(ranges) > most else [])])
