"""What is said of a run while it runs."""

import io
import sys
import threading

import pytest

from specdec_bench.report import progress
from specdec_bench.report.progress import Cells, RunProgress, duration
from specdec_bench.runner.messages import Counts, Progress


def told(phase: str = "measure", *, finished: int = 0, failed: int = 0, elapsed_s: float = 10.0) -> Progress:
    return Progress(
        phase=phase,  # type: ignore[arg-type]
        counts=Counts(
            finished=finished, failed=failed, in_flight=1, output_tokens=500, decoded_tokens=400, decode_steps=200
        ),
        total=80,
        elapsed_s=elapsed_s,
    )


def test_a_line_of_a_run() -> None:
    shown = RunProgress()
    assert shown.line() == "starting the engine"
    shown.update(told("warmup"))
    assert shown.line() == "warming up"
    shown.update(told())
    assert shown.line() == "0 of 80 requests done; 50 tokens/s · acceptance length 2.00; time left unknown"
    # 20 of 80 in 10 s.
    shown.update(told(finished=19, failed=1))
    expected = "20 of 80 requests done; 50 tokens/s · acceptance length 2.00 · 1 failed; about 30 s left"
    assert shown.line() == expected


def test_a_line_of_a_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress.time, "monotonic", lambda: 110.0)
    # The third of five began 90 s ago, of which two cells took most; 10 s and 30 s more are this one's.
    cells = Cells(total=5, done=2, ended_here=2, began_s=20.0)
    shown = RunProgress(cells=cells)
    assert shown.line() == "2 of 5 cells done; starting the engine"
    shown.update(told(finished=20))
    # Three cells in 90 + 30 s are 40 s each: 30 s, and 40 s for either of the last two.
    assert shown.line().endswith("20 of 80 requests done; 50 tokens/s · acceptance length 2.00; about 1 min 50 s left")


def test_a_search_does_not_know_its_end() -> None:
    shown = RunProgress(cells=Cells(total=None, done=3))
    shown.update(told(finished=20))
    assert shown.line().startswith("3 cells done; 20 of 80 requests done; ")
    assert shown.line().endswith("; time left unknown")


def test_an_ended_cell_counts_however_it_ended() -> None:
    cells = Cells(total=3, done=1)
    with pytest.raises(KeyboardInterrupt), RunProgress(disable=True, cells=cells):
        raise KeyboardInterrupt
    assert (cells.done, cells.ended_here) == (2, 1)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (90_061, "25 h 1 min"),
    ],
)
def test_a_duration(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_where_there_is_no_terminal_lines_are_printed_and_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = threading.Event()

    class Lines(io.StringIO):
        def flush(self) -> None:
            printed.set()

    lines = Lines()
    monkeypatch.setattr(sys, "stderr", lines)
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.001)
    with RunProgress() as shown:
        shown.update(told(finished=20))
        assert printed.wait(30)
    assert set(lines.getvalue().splitlines()) <= {"starting the engine", shown.line()}
    monkeypatch.setattr(sys, "stderr", silent := Lines())
    with RunProgress(disable=True) as shown:
        shown.update(told(finished=20))
    assert silent.getvalue() == ""
