"""How long report.html takes to make and to paint: `python benchmarks/report_page.py`.

Writes 200 cells of 500 requests each, as an archive, makes their page through the command line, opens it in headless
Chromium several times, and prints one JSON object: seconds to make it, its bytes, and milliseconds to the first paint
and until the page can be used. Needs the extra `[test]` and Chromium (`tests/browser/install.sh`).
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tests.helpers.archive_samples import make_prompt  # noqa: E402
from tests.helpers.made_archives import plain, reply, write_run  # noqa: E402

METHODS = ("none", "ngram", "draft_model", "eagle3", "mtp")


def main() -> None:
    """Prints the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--requests", type=int, default=500, help="of each cell")
    parser.add_argument("--paints", type=int, default=5, help="how often the page is opened")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "archives"
        write_archives(folder, options.cells, options.requests)
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, str(ROOT / "run.py"), "report", str(folder)], check=True, stdout=subprocess.DEVNULL
        )
        made_s = time.perf_counter() - began
        page = folder / "report.html"
        painted_ms, ready_ms = paint(page, options.paints)
        print(
            json.dumps(
                {
                    "cells": options.cells,
                    "requests": options.cells * options.requests,
                    "make_s": made_s,
                    "page_bytes": page.stat().st_size,
                    "first_contentful_paint_ms": painted_ms,
                    "ready_ms": ready_ms,
                },
                indent=2,
            )
        )


def write_archives(folder: Path, num_cells: int, num_requests: int) -> None:
    """Writes the cells: of each method at as many loads as it takes, plain decoding among them."""
    prompts = [make_prompt(number, category=f"category {number % 10}") for number in range(num_requests)]
    records = [reply(prompt, [number % 4, 2, 0, 3, 1]) for number, prompt in enumerate(prompts)]
    plain_records = [plain(record) for record in records]
    for number in range(num_cells):
        load, method = divmod(number, len(METHODS))
        spec = METHODS[method]
        changes: dict[str, Any] = {"cell_id": f"plain {load + 1}"} if spec == "none" else {}
        write_run(
            folder / str(number),
            plain_records if spec == "none" else records,
            prompts,
            spec=spec,
            concurrency=load + 1,
            **changes,
        )


def paint(page: Path, num_paints: int) -> tuple[float, float]:
    """Returns the median milliseconds to the first contentful paint, and until the page can be used."""
    painted, ready = [], []
    path = shutil.which("chromium") or shutil.which("google-chrome")
    assert path, "there is no chromium; tests/browser/install.sh installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for _ in range(num_paints):
            tab = browser.new_page(viewport={"width": 1280, "height": 900})
            began = time.perf_counter()
            tab.goto(page.as_uri())
            tab.wait_for_selector("html[data-ready]")
            ready.append(1000 * (time.perf_counter() - began))
            tab.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
            painted.append(tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
            tab.close()
        browser.close()
    return statistics.median(painted), statistics.median(ready)


if __name__ == "__main__":
    main()
