"""README and docs as tests read them: their pages and the commands in their `bash` blocks."""

import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
COMPOSED_ONLY = ("gpu", "hub", "engine", "extra")


class Command(NamedTuple):
    page: Path
    kind: str
    """Of its block: empty, or one of COMPOSED_ONLY."""
    words: tuple[str, ...]


def _commands(page: Path) -> Iterator[Command]:
    """Yields the commands of a page's `bash` blocks, in order."""
    for kind, block in re.findall(r"^```bash *(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            yield Command(page, kind, tuple(shlex.split(line, comments=True)))


def _first_of_each(found: Iterable[Command]) -> list[Command]:
    first: dict[tuple[str, ...], Command] = {}
    for command in found:
        first.setdefault(command.words, command)
    return list(first.values())


COMMANDS = _first_of_each(command for page in PAGES for command in _commands(page))
"""Each once, though several pages may have it, in the order of the pages."""


def name(command: Command) -> str:
    return f"{command.page.relative_to(ROOT)}: {' '.join(command.words)}"
