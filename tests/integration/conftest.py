import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.helpers.command_line import CommandLine

PROMPTS = """\
{"prompt_id": "one", "category": "a", "prompt": "hi"}
{"prompt_id": "two", "category": "b", "turns": ["x", "y"]}
"""


@pytest.fixture(scope="session")
def environment() -> Mapping[str, str]:
    """What the processes inherit: nothing that is Hydra's."""
    return {name: value for name, value in os.environ.items() if name not in ("HYDRA_FULL_ERROR", "COLUMNS")}


@pytest.fixture(scope="session")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two conversations, of one turn and of two."""
    path = tmp_path_factory.mktemp("dataset") / "prompts.jsonl"
    path.write_text(PROMPTS, encoding="utf-8")
    return path


@pytest.fixture
def command_line(tmp_path: Path, environment: Mapping[str, str], prompts: Path) -> CommandLine:
    """run.py in an empty folder, so that whatever it leaves behind is seen."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    return CommandLine(folder, environment, prompts)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, environment: Mapping[str, str], prompts: Path) -> Path:
    """The one finished run that many tests look at; none changes it."""
    folder = tmp_path_factory.mktemp("finished")
    command_line = CommandLine(folder, environment, prompts)
    outcome = command_line.measure("hydra.run.dir=run", "sampling.max_new_tokens=32", "load.concurrency=2")
    assert (outcome.status, outcome.stderr) == (0, ""), outcome.stderr
    return folder / "run"
