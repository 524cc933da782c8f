"""The training text: Python's standard library, cut into conversations in which code continues code."""

import itertools
import json
import lzma
import random
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

LEFT_OUT = {"site-packages", "lib2to3", "idlelib", "__pycache__", "ensurepip"}
BLOCK_START = re.compile(r"(?m)^(?=[ ]*(?:@|def |async def |class ))")
Turns = list[tuple[str, str]]
"""(role, text) in order; roles alternate user, assistant."""


def collect(path: Path) -> None:
    """Writes the running Python's own .py files as xz-compressed JSON: [[name, text], ...], sorted by name."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = []
    for file in sorted(root.rglob("*.py")):
        name = file.relative_to(root)
        if LEFT_OUT & set(name.parts):
            continue
        try:
            files.append([str(name), file.read_text(encoding="utf-8")])
        except UnicodeDecodeError:
            continue  # a few test files are in other encodings on purpose
    with lzma.open(path, "wt", encoding="utf-8") as out:
        json.dump(files, out)


def read(path: Path) -> list[str]:
    """Returns the texts of a collected corpus."""
    with lzma.open(path, "rt", encoding="utf-8") as source:
        return [text for _, text in json.load(source) if len(text) > 200]


def conversations(texts: list[str], rng: random.Random) -> Iterator[Turns]:
    """Yields conversations without end, files drawn in proportion to their length.

    The user gives the beginning of a block (a function, a method, a class head), cut at the end of a line;
    the assistant gives the rest of it. Consecutive blocks of a file make the turns of one conversation.
    """
    blocks = [[block for block in BLOCK_START.split(text) if block.strip()] for text in texts]
    ends = list(itertools.accumulate(len(text) for text in texts))
    while True:
        (chosen,) = rng.choices(blocks, cum_weights=ends)
        first = rng.randrange(len(chosen))
        turns: Turns = []
        for block in chosen[first : first + rng.choice((1, 1, 2, 3, 4))]:
            lines = block.splitlines(keepends=True)
            if len(lines) < 4:
                continue
            cut = rng.randint(1, min(len(lines) - 2, 40))
            rest = "".join(lines[cut : cut + 60]).rstrip("\n")
            turns += [("user", "".join(lines[:cut])), ("assistant", rest)]
        if turns:
            yield turns


def render(turns: Turns) -> str:
    """Returns the text that the chat template makes of a finished conversation."""
    return "<|bos|>" + "".join(f"<|{role}|>{text}<|end|>" for role, text in turns)
