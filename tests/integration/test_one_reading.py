"""How often the process that started a run reads its requests, once they are measured."""

from pathlib import Path
from typing import Any

import pytest

from specdec_bench.archive.names import REQUESTS
from specdec_bench.runner.process import end_process
from tests.helpers import in_process
from tests.helpers.command_line import CommandLine


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders whose requests were opened, in order; an end that is looked for is not read."""
    found: list[str] = []
    real = Path.open

    def opened(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == REQUESTS:
            found.append(path.parent.name)
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", opened)
    return found


def test_summary_table_and_plots_of_a_run_are_of_one_reading(command_line: CommandLine, readings: list[str]) -> None:
    outcome = in_process.run(command_line.folder, *command_line.experiment, "hydra.run.dir=run")
    end_process()
    assert (outcome.status, outcome.stderr) == (0, "")
    assert list((command_line.folder / "run").glob("*.png"))
    assert readings == ["run"]


def test_those_of_a_run_that_failed_in_part_too(command_line: CommandLine, readings: list[str]) -> None:
    arguments = (*command_line.experiment, "hydra.run.dir=run", "load.num_warmup=0", "engine.crash_after=2")
    outcome = in_process.run(command_line.folder, *arguments)
    assert outcome.status == 1
    assert readings == ["run"]


def test_a_sweep_s_cells_are_read_once_for_their_summary_and_once_for_its_tables(
    command_line: CommandLine, readings: list[str]
) -> None:
    arguments = ("-m", *command_line.experiment, "spec=none,ngram", "hydra.sweep.dir=sweep")
    outcome = in_process.run(command_line.folder, *arguments)
    end_process()
    assert (outcome.status, outcome.stderr) == (0, "")
    assert readings == ["0", "1", "0", "1"]
