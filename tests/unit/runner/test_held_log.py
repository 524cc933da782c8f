"""What is logged while an experiment is composed reaches the run's log, once, in its order and with its own time."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from specdec_bench.errors import ConfigError
from specdec_bench.runner import held_log

LOGGER = logging.getLogger("specdec_bench.made_up")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """A root logger as Hydra sets it up: one file, from INFO on."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    handler = logging.FileHandler(tmp_path / "run.log")
    handler.setFormatter(logging.Formatter("%(levelname)s %(created)d %(message)s"))
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    yield tmp_path / "run.log"
    root.handlers = handlers
    root.setLevel(level)
    handler.close()


def test_what_is_held_is_written_when_asked(log: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with held_log.hold() as records:
        LOGGER.warning("the template reads %s", "the clock")
        LOGGER.info("a detail")
        LOGGER.debug("too fine")
    assert log.read_text() == ""
    for record in records:
        record.created = 17.0
    LOGGER.info("the run begins")
    held_log.write(records)
    lines = log.read_text().splitlines()
    assert [line.split(" ", 2)[::2] for line in lines] == [
        ["INFO", "the run begins"],
        ["WARNING", "the template reads the clock"],
        ["INFO", "a detail"],
    ]
    assert [line.split()[1] for line in lines[1:]] == ["17", "17"]
    assert capfd.readouterr() == ("", "")


def test_the_same_records_go_into_the_log_of_each_cell(log: Path) -> None:
    with held_log.hold() as records:
        LOGGER.warning("said once")
    held_log.write(records)
    held_log.write(records)
    assert log.read_text().count("said once") == 2


def test_a_refusal_leaves_the_log_as_it_was(log: Path) -> None:
    def refuse() -> None:
        with held_log.hold():
            raise ConfigError("refused")

    root = logging.getLogger()
    before = root.handlers, root.level
    with pytest.raises(ConfigError, match="refused"):
        refuse()
    assert (root.handlers, root.level) == before


def test_where_nothing_logs_a_file_does(tmp_path: Path) -> None:
    """A replay has no Hydra to set its log up. Nothing is made before something is said."""
    root, path = logging.getLogger(), tmp_path / "later" / "run.log"
    handlers, level = root.handlers, root.level
    root.handlers = []
    try:
        with held_log.logging_to(path):
            path.parent.mkdir()
            LOGGER.info("said")
        assert root.handlers == []
    finally:
        root.handlers = handlers
    assert path.read_text().endswith("[specdec_bench.made_up][INFO] said\n")
    assert root.level == level


def test_a_log_that_there_is_stays_the_only_one(log: Path, tmp_path: Path) -> None:
    with held_log.logging_to(tmp_path / "other.log"):
        LOGGER.info("said")
    assert "said" in log.read_text()
    assert not (tmp_path / "other.log").exists()
