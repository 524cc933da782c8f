"""report.html as a file: what it embeds, that no text of a run becomes markup, and how large it gets."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from msgspec.structs import replace

from specdec_bench.errors import ArchiveError
from specdec_bench.records.request import Prompt
from specdec_bench.report.html import page
from specdec_bench.report.html.build import build_report, thin_replies
from specdec_bench.report.html.data import Report
from specdec_bench.report.html.details import read_details
from specdec_bench.report.html.page import MAX_BYTES, render, write_run_report
from tests.helpers.archive_samples import HOSTILE, make_prompt
from tests.helpers.made_archives import collected, plain, reply, write_run

SCRIPT = "</script><script>document.title='planted'</script><img src=x onerror=document.title='planted'>"


class Elements(HTMLParser):
    """The elements of the page, as a browser would find them."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.tags: list[str] = []
        self.policy = ""
        self._current = ""
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        self._current = "" if values.get("type") == "application/json" else tag
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"] or ""

    def handle_endtag(self, tag: str) -> None:
        self._current = ""

    def handle_data(self, data: str) -> None:
        if self._current in ("script", "style"):
            (self.scripts if self._current == "script" else self.styles).append(data)


def data_of(content: str) -> object:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', content, re.S)
    assert found
    return json.loads(found[1])


def report_of(folder: Path, **changes: object) -> Report:
    prompt = make_prompt()
    record = reply(prompt, [2, 0, 3])
    runs = [
        write_run(folder / "0", [plain(record)], [prompt], spec="none", cell_id="plain 1"),
        write_run(folder / "1", [record], [prompt], **changes),  # type: ignore[arg-type]
    ]
    result, by_job = collected(runs)
    details = {job: read_details(run) for job, run in by_job.items()}
    return build_report(result, by_job, details, root=folder, kind="sweep")


def test_the_policy_allows_the_pages_own_scripts_and_styles_and_nothing_else(tmp_path: Path) -> None:
    elements = Elements(render(report_of(tmp_path)).decode())
    rules = dict(rule.strip().split(" ", 1) for rule in elements.policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["base-uri"] == rules["form-action"] == "'none'"
    assert set(rules) == {"default-src", "script-src", "style-src", "img-src", "base-uri", "form-action"}
    for name, texts in (("script-src", elements.scripts), ("style-src", elements.styles)):
        hashes = {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts}
        assert set(rules[name].split()) == {f"'sha256-{value}'" for value in hashes}


def test_the_page_names_no_address_to_load_from(tmp_path: Path) -> None:
    content = render(report_of(tmp_path)).decode()
    assert re.findall(r'(?:src|href)="([^"#]*)"', content) == ["data:,"]
    assert not re.search(r"\b(?:fetch|XMLHttpRequest|innerHTML|outerHTML|insertAdjacentHTML|eval)\b", content)


@pytest.mark.parametrize("text", [*HOSTILE, SCRIPT, "<!--", "]]>", "&lt;", "@DATA@", "@SCRIPTS@"])
def test_no_text_of_a_run_becomes_markup(tmp_path: Path, text: str) -> None:
    prompt = Prompt(prompt_id=text, category=text, turns=(text,))
    record = reply(prompt, [2])
    runs = [
        write_run(
            tmp_path / "a", [record], [prompt], text=lambda _: text, error=text, overrides=(f"model.name={text}",)
        )
    ]
    result, by_job = collected(runs)
    details = {0: read_details(runs[0])}
    content = render(build_report(result, by_job, details, root=tmp_path, kind="sweep"))
    ordinary = render(report_of(tmp_path / "ordinary")).decode()
    assert Elements(content.decode()).tags == Elements(ordinary).tags
    assert "\u2028" not in content.decode()
    data = data_of(content.decode())
    assert isinstance(data, dict)
    (shown,) = data["cells"][0]["inspected"]
    as_archived = json.loads(json.dumps(text))  # a surrogate pair held as two halves becomes one character
    assert shown["text"] == as_archived
    assert shown["category"] == as_archived
    assert shown["prompt"] == as_archived


def test_replies_are_left_out_until_the_page_fits(tmp_path: Path) -> None:
    prompts = [make_prompt(number, category=f"c{number}") for number in range(4)]
    records = [reply(prompt, [3] * 40) for prompt in prompts]
    runs = [write_run(tmp_path / str(k), records, prompts, draft_length=k) for k in (3, 4)]
    result, by_job = collected(runs)
    details = {job: read_details(run) for job, run in by_job.items()}
    report = build_report(result, by_job, details, root=tmp_path, kind="sweep")
    assert [len(cell.inspected) for cell in report.cells] == [4, 4]
    one = len(json.dumps(data_of(render(report).decode())["cells"][0]["inspected"][0]))  # type: ignore[index,call-overload]
    thinned = thin_replies(report, 3 * one)
    # Each cell's first reply, then the first cell's second.
    assert [[one.prompt_id for one in cell.inspected] for cell in thinned.cells] == [["p0", "p1"], ["p0"]]
    assert "3 of 8 replies" in thinned.thinned[-1]
    assert thin_replies(report, 10**9).thinned == []


def test_a_hundred_cells_fit_into_two_megabytes(tmp_path: Path) -> None:
    prompts = [make_prompt(number, category=f"category {number}") for number in range(24)]
    records = [reply(prompt, [3, 2, 1, 0] * 30) for prompt in prompts]
    runs = [write_run(tmp_path / "0", records, prompts)]
    result, by_job = collected(runs)
    one = build_report(result, by_job, {0: read_details(runs[0])}, root=tmp_path, kind="sweep")
    cells = [replace(one.cells[0], job=job) for job in range(100)]
    curves = tuple(replace(one.panels[0].curves[0], label=f"ngram K={job}") for job in range(100))
    content = render(replace(one, cells=cells, panels=[replace(one.panels[0], curves=curves)]))
    assert len(content) <= MAX_BYTES < 2_000_000
    data = data_of(content.decode())
    assert isinstance(data, dict)
    assert len(data["cells"]) == 100
    assert all(cell["inspected"] for cell in data["cells"])
    assert "of 2,400 replies" in data["thinned"][-1]


def test_a_page_that_cannot_be_made_is_said_and_fails_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "a", [reply(make_prompt(), [2])])
    monkeypatch.setattr(page.files, "write_atomically", lambda *_: (_ for _ in ()).throw(ArchiveError("disk is full")))
    write_run_report(run)
    assert not (run.path / "report.html").exists()
    assert capsys.readouterr().err == (
        f"error: {run.path}: report.html was not written: disk is full; specdec-bench report makes it\n"
    )


def test_the_vendored_library_is_the_one_that_its_note_says() -> None:
    note = (page.FOLDER / "vendor" / "README.md").read_text()
    for name in ("uPlot.iife.min.js", "uPlot.min.css"):
        assert hashlib.sha256((page.FOLDER / "vendor" / name).read_bytes()).hexdigest() in note
    assert "MIT" in (page.FOLDER / "vendor" / "LICENSE.uPlot").read_text()
