"""What is read off an engine's output when it fails."""

from specdec_bench.runner.process_log import LastWords


def heard(*lines: str) -> LastWords:
    words = LastWords()
    for line in lines:
        words.add(line + "\n")
    return words


def test_the_first_traceback_names_the_cause() -> None:
    words = heard(
        "loading",
        "Traceback (most recent call last):",
        '  File "worker.py", line 7, in run',
        "    raise ValueError(text)",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
        "Traceback (most recent call last):",
        "RuntimeError: engine core failed",
        "bye",
        "",
    )
    assert words.first_failure == "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"
    assert words.last_line == "bye"


def test_a_loggers_prefix_and_other_processes_in_between() -> None:
    words = heard(
        "(Worker pid=12) ERROR 20:25:19 [x.py:99] Traceback (most recent call last):",
        '(Worker pid=12) ERROR 20:25:19 [x.py:99]   File "worker.py", line 7, in run',
        "(Other pid=1) INFO 20:25:19 [y.py:1] nothing to do with it",
        "Process EngineCore:",
        "(Worker pid=12) ERROR 20:25:20 [x.py:99] ",
        "(Worker pid=12) ERROR 20:25:20 [x.py:99] ValueError: too little memory",
        "(Worker pid=12) ERROR 20:25:20 [x.py:99] and a line more",
    )
    assert words.first_failure == "ValueError: too little memory"


def test_without_a_traceback_there_is_only_the_last_line() -> None:
    assert heard("a warning", "").first_failure is None
    assert heard("a warning", "  ").last_line == "a warning"
    assert heard().last_line == "none"
