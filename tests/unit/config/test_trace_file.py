"""Files of arrival times: what is read, and what is refused in one line."""

import os
from pathlib import Path

import pytest

from specdec_bench.config import trace_file
from specdec_bench.errors import ConfigError


def refusal(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        trace_file.read(str(path))
    message = str(caught.value)
    assert "\n" not in message
    assert message.isprintable()
    return message.replace(str(path), "FILE")


def test_times_are_read_and_come_back_exactly(tmp_path: Path) -> None:
    path = tmp_path / "trace.txt"
    path.write_text("# of a Tuesday\n0\n\n 0.1\n0.1\n2.5e1\n", encoding="utf-8")
    assert trace_file.read(str(path)) == "0.0 0.1 0.1 25.0"
    assert trace_file.parse("0.0 0.1 0.1 25.0") == [0, 0.1, 0.1, 25]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"0\nsoon\n", "load.path=FILE: line 2: 'soon' is not a number; write one arrival per line, in seconds"),
        (b"0 1\n", "line 1: '0 1' is not a number"),
        (b"0,1\n", "line 1: '0,1' is not a number"),
        (b"1_0\n", "'1_0' is not a number"),
        ("\u0663\n".encode(), "is not a number"),
        (b"\x1b[31m\n", "line 1: '\\x1b[31m' is not a number"),
        (b"-1\n", "line 1: '-1' must lie in [0, 604,800]"),
        (b"nan\n", "'nan' must lie in"),
        (b"inf\n", "'inf' must lie in"),
        (b"1e9\n", "'1e9' must lie in [0, 604,800]"),
        (b"2\n1\n", "line 2: '1' is earlier than the 2.0 before it; sort the file"),
        (b"", "holds no arrival"),
        (b"# nothing\n\n", "holds no arrival"),
        (b"\xff\xfe\n", "not UTF-8"),
        (b"x" * 100_000, "... (100,002 characters) is not a number"),
        (b"0\n" * (trace_file.MOST_ARRIVALS + 1), "has 100,001 arrivals; a trace has at most 100,000"),
        (b"0\n" * (trace_file.MOST_BYTES // 2 + 1), "bytes; a trace has at most"),
    ],
)
def test_what_is_no_trace_is_refused_in_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    assert words in refusal(tmp_path / "trace.txt", content)


@pytest.mark.timeout(10)
def test_pipes_and_folders_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "missing"):
        with pytest.raises(ConfigError, match="no such file"):
            trace_file.read(str(path))


def test_an_archived_text_that_was_changed_is_refused() -> None:
    with pytest.raises(ConfigError, match="arrival 2: 'x' is not a number"):
        trace_file.parse("0.5 x")
