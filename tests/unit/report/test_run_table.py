"""What a person reads at the end of a run."""

import io
from typing import Any

import pytest
from rich.console import Console

from specdec_bench.metrics.summary import summarize
from specdec_bench.records.manifest import Lateness
from specdec_bench.records.request import ErrorKind, RequestRecord, Step
from specdec_bench.records.summary import Summary
from specdec_bench.report.run_table import number, print_summary
from tests.helpers.made_runs import S, failure, manifest, request


def failed(number: int, kind: ErrorKind) -> RequestRecord:
    return request(number, error=failure(kind))


def summary(*records: RequestRecord, draft_length: int = 3, **changes: Any) -> Summary:
    config = {"spec": {"draft_length": draft_length}, "load": {"concurrency": 1}}
    return summarize(records, manifest(**({"config": config} | changes)))


def printed(shown: Summary, width: int = 100, title: str = "the run", path: str = "outputs/run") -> str:
    """The output as a file or a terminal without colours gets it; not one character of it may be unprintable."""
    file = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="")
    print_summary(shown, Console(file=file, width=width), title=title, path=path)
    file.flush()
    text = file.buffer.getvalue().decode()  # type: ignore[attr-defined]
    assert text.replace("\n", "").isprintable()
    return text


def cells(text: str, name: str) -> list[str]:
    """Returns the numbers of the row that begins with this name."""
    (row,) = [line for line in text.splitlines() if line.strip().startswith(f"{name} ")]
    return row.replace(name, "", 1).split()


def test_a_run_by_hand() -> None:
    """Writing: 3 and 1 of 3 accepted, 6 tokens in 2 steps. Math: 0 of 3, 1 token in 1 step."""
    text = printed(summary(request(0, 3, 1), request(1, 0, category="math")))
    assert cells(text, "writing") == ["1", "3.000", "3.000", "3.000", "0.667", "1.000", "0.500", "0.500"]
    assert cells(text, "math") == ["1", "1.000", "1.000", "1.000", "0.000", "0.000", "0.000", "0.000"]
    assert cells(text, "all") == ["2", "2.333", "2.000", "2.333", "0.444", "0.667", "0.333", "0.333"]
    assert cells(text, "TTFT") == ["1,000.00"] * 5 + ["2"]
    assert cells(text, "step time")[-1] == "3"
    # 9 tokens and 2 requests from 0 s to 12 s
    assert "throughput  0.8 tokens/s (steady 0.8," in text
    assert "0.17 requests/s over 12.0 s" in text
    assert text.splitlines()[0] == "the run"
    assert text.splitlines()[-1] == "run directory  outputs/run"


def test_what_is_undefined_is_a_dash_and_what_is_zero_is_zero() -> None:
    """GuideLLM turns missing values into 0 or -1."""
    assert (number(None, 2), number(0.0, 2), number(1234.5, 1)) == ("–", "0.00", "1,234.5")
    text = printed(summary(request(0)))
    assert cells(text, "writing") == ["1"] + ["–"] * 7
    assert cells(text, "TPOT") == ["–"] * 5 + ["0"]
    assert "per GPU –" in text


def test_plain_decoding_has_no_columns_of_drafts() -> None:
    steps = tuple(Step(received_ns=(i + 1) * S, num_tokens=1) for i in range(3))
    record = request(0, steps=steps, output_token_ids=(7,) * 3, acceptance_source=None)
    text = printed(summary(record, draft_length=0))
    assert "acceptance (source: plain decoding)" in text
    assert cells(text, "writing") == ["1", "1.000", "1.000", "–", "–"]
    assert "≥1" not in text


def test_no_finished_request_is_a_table_of_dashes() -> None:
    text = printed(summary(failed(0, "engine_error"), status="failed"))
    assert cells(text, "all") == ["0"] + ["–"] * 7
    assert "throughput  – tokens/s" in text


# ---------------------------------------------------------------- what is not a plain result


def test_the_first_line_says_how_many_failed() -> None:
    records = [request(0, 1), failed(1, "engine_error"), failed(2, "engine_error"), failed(3, "context_overflow")]
    lines = printed(summary(*records, failed(4, "interrupted"), request(5, phase="warmup"))).splitlines()
    assert lines[:4] == [
        "2 of 5 requests FAILED; no metric includes them",
        "1 of 5 requests SKIPPED: longer than the model's context (p3); no metric includes them",
        "1 of 5 requests CUT OFF by the end of the run; no metric includes them",
        "the run",
    ]


def test_a_partial_and_a_synthetic_run_say_so_before_any_number() -> None:
    shown = summary(request(0, 1), failed(1, "engine_error"), status="interrupted", synthetic="no model was run")
    assert printed(shown).splitlines()[:4] == [
        "1 of 2 requests FAILED; no metric includes them",
        "PARTIAL RUN: status interrupted",
        "SYNTHETIC: no model was run",
        "the run",
    ]


def test_what_bends_acceptance_comes_before_any_number() -> None:
    config = {"spec": {"draft_length": 3}, "load": {"concurrency": 1}, "sampling": {"ignore_eos": True}}
    lines = printed(summary(request(0, 1), config=config)).splitlines()
    assert lines[0].startswith("sampling.ignore_eos=true: replies go on after their end")
    assert lines[1] == "the run"


def test_rows_that_were_not_used_come_before_any_number() -> None:
    """What was not read of a row's fields is no news; an archive of before, or a summary, says nothing at all."""
    row = {"num_rows": 1, "rows": "4", "examples": ["'x'"]}
    unused = {kind: {f"some {kind}": row} for kind in ("rows", "parts", "fields", "files")}
    lines = printed(summary(request(0, 1), dataset={"unused": unused})).splitlines()
    assert lines[:4] == [
        "1 ROW NOT USED: some rows, such as 'x' (row 4); all are in manifest.json",
        "ROWS NOT SENT AS THEY ARE: some parts, such as 'x' (row 4); all are in manifest.json",
        "FILES NOT READ: 'some files', such as 'x' (row 4); all are in manifest.json",
        "the run",
    ]
    assert printed(summary(request(0, 1))).splitlines()[0] == "the run"


def test_a_saturated_client_is_named_with_its_lateness() -> None:
    late = Lateness(count=9, p50_ms=31.25, p99_ms=60.0, max_ms=81.4)
    text = printed(summary(request(1, 3), client_lateness=late), width=300)
    assert text.startswith("SATURATED CLIENT: the measuring loop was 31.2 ms late at the median (81 at most)")
    in_bursts = Lateness(count=9, mean_ms=7.46, p50_ms=1.44, p99_ms=29.0, max_ms=517.8)
    text = printed(summary(request(1, 3), client_lateness=in_bursts), width=300)
    assert text.startswith("SATURATED CLIENT: the measuring loop was 1.4 ms late at the median (7.5 on average, 518 at")


def test_a_warning_is_one_line_however_narrow_the_terminal() -> None:
    text = printed(summary(request(0, 1), synthetic="no model was run, and this goes on"), width=20)
    assert text.splitlines()[0] == "SYNTHETIC: no model was run, and this goes on"


# ---------------------------------------------------------------- nothing is cut


@pytest.mark.parametrize("width", [100, 80, 40])
@pytest.mark.parametrize("draft_length", [3, 8, 16])
def test_no_name_and_no_number_is_cut(width: int, draft_length: int) -> None:
    """A name too long for its column goes on in the next lines; a number never does."""
    name = "a_category_with_a_rather_long_name_of_fifty_one_signs"
    records = request(0, 1, category=name), request(1, 3)
    text = printed(summary(*records, draft_length=draft_length), width)
    assert "…" not in text
    assert len(cells(text, "all")) == 5 + draft_length
    for header in ("category", "requests", *(f"≥{i}" for i in range(1, draft_length + 1))):
        assert header in text
    words = text[text.index("a_cat") :].split()
    pieces = [word for word in words[: words.index("writing")] if not word[0].isdigit()]
    assert "".join(pieces) == name


def test_a_name_of_usual_length_stays_in_one_line() -> None:
    """The longest of MT-Bench, Spec-Bench and SPEED-Bench."""
    for width in (100, 80):
        assert cells(printed(summary(request(0, 1, category="math_reasoning")), width), "math_reasoning")[0] == "1"


def test_large_times_are_not_cut() -> None:
    slow = request(0, sent_ns=-(10**15), scheduled_ns=-(10**15))
    assert cells(printed(summary(slow), width=60), "TTFT")[0] == "1,000,001,000.00"


# ---------------------------------------------------------------- hostile text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("[red]x", "[red]x"),
        ("[/]", "[/]"),
        ("[link=http://a]b[/link]", "[link=http://a]b[/link]"),
        (":smile:", ":smile:"),
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("a\x07\x00b", r"a\x07\x00b"),
        ("a\rb", r"a\rb"),
        ("a\nb", r"a\nb"),
        ("a\tb", r"a\tb"),
        ("a\u202eb", r"a\u202eb"),
        ("a\ud800b", r"a\ud800b"),
        ("日本 é", "日本 é"),
    ],
)
def test_text_is_shown_literally_wherever_it_stands(name: str, shown: str) -> None:
    """Rich's markup, a terminal's escapes, ends of lines, reversed writing, what UTF-8 lacks."""
    records = [request(0, 1, category=name), failed(1, "engine_error")]
    text = printed(summary(*records, synthetic=name), title=f"title {name}", path=f"outputs/{name}")
    assert cells(text, shown)[0] == "1"
    lines = text.splitlines()
    assert f"SYNTHETIC: {shown}" in lines
    assert f"title {shown}" in lines
    assert f"run directory  outputs/{shown}" in lines


def test_a_colour_terminal_gets_no_escape_that_came_with_a_name() -> None:
    file = io.StringIO()
    console = Console(file=file, width=100, force_terminal=True, color_system="truecolor")
    print_summary(summary(request(0, 1, category="\x1b]0;owned\x07")), console, title="\x1b[2J", path="p")
    assert "\x1b]" not in file.getvalue()
    assert "\x1b[2J" not in file.getvalue()
