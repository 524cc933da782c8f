"""Headings, lines and tables that are written as terminal output, Markdown or HTML. Every text is made inert."""

import base64
import hashlib
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from specdec_bench.report.run_table import print_whole
from specdec_bench.report.text import literal

Tone = Literal["normal", "warning", "quiet"]
_STYLES: dict[Tone, str] = {"normal": "", "warning": "bold red", "quiet": "dim"}
_MARKDOWN_SIGNS = str.maketrans({sign: f"\\{sign}" for sign in "\\`*_{}[]<>()#+!|~&$"})
_CSS = """\
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem }
html { color-scheme: light dark }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto }
th, td { padding: .25rem .75rem; text-align: left; vertical-align: top; border-bottom: 1px solid #8886 }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.warning { color: #c62828; font-weight: 600 }
.quiet { opacity: .7 }
@media (prefers-color-scheme: dark) { .warning { color: #ff8a80 } }
"""


@dataclass(frozen=True, kw_only=True)
class Heading:
    """The title of a section."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of text."""

    text: str
    tone: Tone = "normal"


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table. Every row has as many cells as there are headers."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    num_texts: int = 1
    """The first columns, which hold text; the others hold numbers."""


Block = Heading | Line | Table


def print_blocks(blocks: Iterable[Block], console: Console) -> None:
    """Prints blocks on a terminal."""
    for block in blocks:
        match block:
            case Heading(text=text):
                console.print(Text(f"\n{literal(text)}", style="bold"), soft_wrap=True)
            case Line(text=text, tone=tone):
                console.print(Text(literal(text), style=_STYLES[tone]), soft_wrap=True)
            case Table():
                print_whole(console, _rich(block))


def _rich(block: Table) -> RichTable:
    table = RichTable(box=box.SIMPLE_HEAD)
    for number, header in enumerate(block.headers):
        is_text = number < block.num_texts
        justify: Literal["left", "right"] = "left" if is_text else "right"
        table.add_column(Text(literal(header)), justify=justify, overflow="fold", no_wrap=not is_text)
    for row in block.rows:
        table.add_row(*(Text(literal(cell)) for cell in row))
    return table


def markdown(blocks: Iterable[Block]) -> str:
    """Returns blocks as Markdown of GitHub's kind."""
    parts = []
    for block in blocks:
        match block:
            case Heading(text=text):
                parts.append(f"## {_markdown(text)}")
            case Line(text=text, tone=tone):
                parts.append(f"**{_markdown(text)}**" if tone == "warning" else _markdown(text))
            case Table():
                rules = ["---" if number < block.num_texts else "---:" for number in range(len(block.headers))]
                rows = [[_markdown(cell) for cell in row] for row in (block.headers, *block.rows)]
                lines = [f"| {' | '.join(row)} |" for row in (rows[0], rules, *rows[1:])]
                parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _markdown(text: str) -> str:
    return literal(text).translate(_MARKDOWN_SIGNS)


def page(blocks: Iterable[Block], title: str) -> str:
    """Returns blocks as one HTML page without scripts. Its content security policy allows its own style alone."""
    parts = []
    for block in blocks:
        match block:
            case Heading(text=text):
                parts.append(f"<h2>{_html(text)}</h2>")
            case Line(text=text, tone=tone):
                parts.append(f'<p class="{tone}">{_html(text)}</p>')
            case Table():
                parts.append(_html_table(block))
    body, style = "\n".join(parts), f"\n{_CSS}"
    style_hash = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" '
        f"content=\"default-src 'none'; style-src 'sha256-{style_hash}'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_html(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n<h1>{_html(title)}</h1>\n{body}\n"
        "</body>\n</html>\n"
    )


def _html_table(block: Table) -> str:
    def cells(row: Sequence[str], tag: str) -> str:
        kinds = ["" if number < block.num_texts else ' class="number"' for number in range(len(row))]
        return "".join(f"<{tag}{kind}>{_html(cell)}</{tag}>" for kind, cell in zip(kinds, row, strict=True))

    rows = "\n".join(f"<tr>{cells(row, 'td')}</tr>" for row in block.rows)
    return f"<table>\n<thead><tr>{cells(block.headers, 'th')}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>"


def _html(text: str) -> str:
    return html.escape(literal(text))
