"""report.html in a real browser: nothing is loaded or logged, planted text stays text, and everything can be used."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from specdec_bench.records.request import Prompt
from specdec_bench.report.html.build import build_report
from specdec_bench.report.html.data import Report
from specdec_bench.report.html.details import read_details
from specdec_bench.report.html.page import render
from tests.helpers.archive_samples import HOSTILE, make_prompt
from tests.helpers.made_archives import collected, plain, reply, write_run

OpenPage = Callable[..., Any]

PLANTED = "</script><script>document.title='planted'</script><img src=x onerror=\"document.title='planted'\">"
FORMULA = "=cmd|'/c calc'!A1"
PROMPTS = [make_prompt(number, category=name) for number, name in enumerate(["writing", "字 category", "coding"])]
RECORDS = [reply(prompt, [2, 0, 3]) for prompt in PROMPTS] + [reply(PROMPTS[0], [1, 1], turn=1)]
SECTIONS = [
    "Verdict",
    "Speed against load",
    "Acceptance",
    "Latency",
    "Cells",
    "Where outputs part",
    "One reply, step by step",
    "Configuration",
    "Provenance",
    "Repeat it",
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Of plain decoding and two methods at two loads, one of which changes a reply."""
    folder = tmp_path_factory.mktemp("sweep")
    changed = [replace(RECORDS[0], output_token_ids=(65, 66, 67, 90, *RECORDS[0].output_token_ids[4:])), *RECORDS[1:]]
    runs = []
    for load in (1, 4):
        at = {"concurrency": load, "baseline_id": f"plain {load}"}
        records = [plain(record, step_ms=10.0 * load) for record in RECORDS]
        runs += [
            write_run(folder / f"none {load}", records, PROMPTS, spec="none", cell_id=f"plain {load}", **at),
            write_run(folder / f"ngram {load}", RECORDS, PROMPTS, **at),
            write_run(folder / f"eagle3 {load}", changed, PROMPTS, spec="eagle3", has_token_lengths=False, **at),
        ]
    result, by_job = collected(runs)
    details = {job: read_details(run) for job, run in by_job.items()}
    return build_report(result, by_job, details, root=folder, kind="sweep")


@pytest.fixture(scope="module")
def path(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_bytes(render(report))
    return path


def show_all(page: Any) -> None:
    """Makes every chart, as scrolling through the page does, and opens all that is folded."""
    page.evaluate("for (const node of [...waiting.keys()]) makeNow(node)")
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    page.wait_for_timeout(100)


def test_the_sections_are_in_their_order(open_page: OpenPage, path: Path) -> None:
    page = open_page(path)
    show_all(page)
    assert page.locator("main h2").all_inner_texts() == SECTIONS
    assert page.title() == "plain decoding · ngram · eagle3 – specdec_bench"
    assert "is not judged: single runs" in page.locator("#verdict").inner_text()
    assert page.locator(".plot canvas").count() >= 8
    assert page.locator(".nothing").count() == 0


def test_planted_text_stays_text(open_page: OpenPage, tmp_path: Path) -> None:
    texts = [PLANTED, FORMULA, *HOSTILE]
    prompts = [Prompt(prompt_id=f"{i} {text}", category=text or "none", turns=(text,)) for i, text in enumerate(texts)]
    said = {prompt.prompt_id: texts[number] for number, prompt in enumerate(prompts)}
    run = write_run(
        tmp_path / "</title><script>alert(1)",
        [reply(prompt, [2]) for prompt in prompts],
        prompts,
        text=lambda record: said[record.prompt_id],
        config={"model": {"name": PLANTED}, "dataset": {"name": FORMULA}},
        error=PLANTED,
    )
    result, by_job = collected([run])
    built = build_report(result, by_job, {0: read_details(run)}, root=tmp_path, kind="sweep")
    (tmp_path / "report.html").write_bytes(render(built))
    page = open_page(tmp_path / "report.html")
    show_all(page)
    choice = page.get_by_label("Reply", exact=True)
    for number in range(choice.locator("option").count()):
        choice.select_option(str(number))
    assert page.title() == "ngram K=3 – specdec_bench"
    assert page.locator("img, iframe, object, embed").count() == 0
    assert PLANTED in page.locator("#subtitle").inner_text()
    (row,) = csv.DictReader(io.StringIO(page.evaluate("cellsAsCsv()")))
    assert (row["dataset"], row["model"]) == (f"'{FORMULA}", PLANTED)


def test_cells_can_be_sorted_and_filtered(open_page: OpenPage, path: Path) -> None:
    page = open_page(path)
    names = page.locator("#cells tbody tr td:nth-child(2)")
    assert names.all_inner_texts() == ["none", "ngram K=3", "eagle3 K=3"] * 2
    header = page.locator("#cells").get_by_role("button", name="tokens/s")
    rate = {cell["job"]: cell["metrics"]["output_tps"]["value"] for cell in page.evaluate("report.cells")}
    jobs = page.locator("#cells tbody th")
    header.click()
    assert [int(text) for text in jobs.all_inner_texts()] == sorted(rate, key=lambda job: (rate[job], job))
    header.press("Enter")  # the focus stays on it
    assert page.locator("#cells th[aria-sort=descending]").inner_text().startswith("tokens/s")
    assert [int(text) for text in jobs.all_inner_texts()] == sorted(rate, key=lambda job: (-rate[job], job))
    page.get_by_label("Filter").fill("ngram 4")
    assert (names.all_inner_texts(), page.locator("#cells output").first.inner_text()) == (
        ["ngram K=3"],
        "1 of 6 cells",
    )


def test_what_is_copied_is_what_is_shown_with_every_metric(open_page: OpenPage, path: Path) -> None:
    page = open_page(path)
    page.get_by_label("Filter").fill("ngram")
    page.locator("#copy").click()
    page.wait_for_function("document.querySelector('#copy + output').textContent === 'copied'")
    rows = list(csv.DictReader(io.StringIO(page.evaluate("navigator.clipboard.readText()"))))
    assert [row["name"] for row in rows] == ["ngram K=3"] * 2
    cell = page.evaluate("report.cells[1].metrics.acceptance_length")
    assert [float(rows[0][f"acceptance_length{end}"]) for end in ("", "_low", "_high")] == list(cell.values())


def test_the_inspector_shows_whose_each_token_is(open_page: OpenPage, path: Path) -> None:
    page = open_page(path)
    page.get_by_label("Cell", exact=True).select_option(label="job 1 · ngram K=3 · 1 in flight")
    page.get_by_label("Reply", exact=True).select_option(label="p0 · turn 1 · writing")
    # The prefill's A; BC accepted and D added; E added after none was accepted; FGH accepted and I added.
    view = page.locator(".reply")
    assert [view.locator(f".{kind}").all_inner_texts() for kind in ("first", "draft", "target")] == [
        ["A"],
        ["BC", "FGH"],
        ["D", "E", "I"],
    ]
    assert view.locator(".step").all_inner_texts() == ["A", "BCD", "E", "FGHI"]
    told = page.locator("#inspector .readout").first
    view.press("ArrowRight")
    assert told.inner_text() == "Step 2: 10 ms after the one before; 3 drafted, 0 accepted; 1 added by the target."
    view.locator(".step").first.click()
    assert told.inner_text() == "Prefill: 1 token, 100 ms after the request was sent."
    page.get_by_label("Cell", exact=True).select_option(label="job 4 · ngram K=3 · 4 in flight")
    assert "p0 · turn 1" in page.get_by_label("Reply", exact=True).locator("option:checked").inner_text()


def test_a_reply_without_its_tokens_texts_shows_sizes_and_says_so(open_page: OpenPage, path: Path) -> None:
    page = open_page(path)
    page.get_by_label("Cell", exact=True).select_option(label="job 2 · eagle3 K=3 · 1 in flight")
    blocks = page.locator(".blocks")
    assert blocks.locator(".draft").count() == 5
    assert blocks.locator(".target").count() == 3
    assert blocks.inner_text().strip() == ""
    assert "The archive has this reply as one text" in page.locator("#inspector").inner_text()


def test_the_place_where_outputs_part_is_marked(open_page: OpenPage, path: Path) -> None:
    page = open_page(path)
    first = page.locator(".excerpts li").first
    assert "they part at output token 4" in first.inner_text()
    assert first.locator("mark").all_inner_texts() == ["DEFGHI", "ZEFGHI"]
    assert first.locator(".excerpt").first.inner_text().endswith("ABCDEFGHI")


def test_charts_are_read_by_keys_and_lines_are_hidden_by_the_legend(open_page: OpenPage, path: Path) -> None:
    page = open_page(path)
    show_all(page)
    plot = page.locator("#speed .plot").first
    told = page.locator("#speed .readout").first
    plot.press("ArrowRight")
    assert told.inner_text().startswith("requests in flight 1: ")
    before = told.inner_text()
    plot.press("ArrowRight")
    assert told.inner_text() != before
    button = page.locator("#speed .legend").get_by_role("button", name="eagle3 K=3")
    assert page.locator("#speed details thead").first.inner_text().count("eagle3") == 1
    button.click()
    show_all(page)
    assert button.get_attribute("aria-pressed") == "false"
    assert "eagle3" not in page.locator("#speed details thead").first.inner_text()


def test_the_button_turns_the_page_dark_and_its_charts_with_it(open_page: OpenPage, path: Path) -> None:
    page = open_page(path)
    show_all(page)
    canvas = page.locator("#speed canvas").last
    light = page.evaluate("getComputedStyle(document.body).backgroundColor"), canvas.screenshot()
    page.locator("#theme").click()
    page.wait_for_timeout(100)
    assert page.locator("#theme").get_attribute("aria-pressed") == "true"
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor"), canvas.screenshot()
    assert light[0] != dark[0]
    assert light[1] != dark[1]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (360, "light"), (360, "dark")])
def test_no_serious_accessibility_fault_and_no_sideways_scrolling(
    open_page: OpenPage, path: Path, width: int, scheme: str, tmp_path: Path
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = open_page(path, width=width, scheme=scheme)
    show_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    found = Axe().run(page).response
    assert len(found["passes"]) > 20
    serious = [
        (fault["id"], fault["nodes"][0]["html"])
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
    ]
    assert serious == []
    page.screenshot(path=tmp_path / f"{width}-{scheme}.png", full_page=True)


def test_it_prints_with_all_charts_in_light_colours(open_page: OpenPage, path: Path) -> None:
    page = open_page(path, scheme="dark")
    assert page.evaluate("waiting.size") > 0
    assert page.pdf(format="A4").startswith(b"%PDF")
    assert page.evaluate("waiting.size") == 0
    assert page.evaluate("document.documentElement.dataset.theme") is None  # and goes back to the system's


def test_two_hundred_cells_of_a_hundred_thousand_requests_are_painted(
    open_page: OpenPage, report: Report, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """The time is told, not judged: benchmarks/report_page.py measures it."""
    one, panel = report.cells[1], report.panels[0]
    cells = [replace(one, job=job, name=f"ngram K={job}", num_finished=500) for job in range(200)]
    curves = tuple(replace(panel.curves[1], label=f"ngram K={job}") for job in range(50))
    content = render(replace(report, cells=cells, panels=[replace(panel, curves=curves)]))
    (tmp_path / "report.html").write_bytes(content)
    page = open_page(tmp_path / "report.html")
    (painted,) = page.evaluate("performance.getEntriesByName('first-contentful-paint').map((one) => one.startTime)")
    record_property("first_contentful_paint_ms", painted)
    print(f"first contentful paint after {painted:.0f} ms, of {len(content):,} bytes")
    assert painted > 0
    assert page.locator("#cells tbody tr").count() == 200
    assert "of 100,000 replies" in page.locator("#thinned").inner_text()
