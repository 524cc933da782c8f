"""Every bad input of tests/bad_inputs is refused: exit status 2, one line that says why, nothing left behind.

They all run in this one process: a new one for each would take five minutes.
"""

import gc
import json
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.helpers import in_process
from tests.helpers.bad_input_files import LISTS, placeholders, write_files


@dataclass(frozen=True)
class BadInput:
    """A command line, and what its refusal says."""

    arguments: tuple[str, ...]
    words: tuple[str, ...]


def bad_inputs() -> dict[str, BadInput]:
    """Returns them by name: the list that they stand in, and their line there."""
    found = {}
    for path in sorted(LISTS.glob("*.yaml")):
        if path.stem == "files":
            continue
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        before = shlex.split(content["before"])
        for line, words in content["inputs"].items():
            arguments = (*before, *shlex.split(str(line)))
            name = ascii(f"{path.stem}: {line}").strip("\"'")
            found[name] = BadInput(arguments, (words,) if isinstance(words, str) else tuple(words))
    return found


BAD_INPUTS = bad_inputs()


@pytest.fixture(scope="module")
def stands_for(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    gc.freeze()  # or a tenth of the time goes into looking through what was imported
    folder = tmp_path_factory.mktemp("files")
    write_files(folder)
    return placeholders(folder)


def fill_in(text: str, stands_for: dict[str, str]) -> str:
    for name, value in stands_for.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def left_behind(folder: Path) -> list[str]:
    """Returns the names of what lies in the folder; of a run, its status."""
    runs = list(folder.rglob("manifest.json"))
    if runs:
        return [json.loads(path.read_text())["status"] for path in runs]
    return [path.name for path in folder.iterdir()]


@pytest.mark.timeout(30)
@pytest.mark.parametrize("bad_input", BAD_INPUTS.values(), ids=BAD_INPUTS)
def test_it_is_refused_in_one_line(bad_input: BadInput, stands_for: dict[str, str], tmp_path: Path) -> None:
    outcome = in_process.run(tmp_path, *(fill_in(argument, stands_for) for argument in bad_input.arguments))
    assert outcome.status == 2, outcome
    for word in bad_input.words:
        assert word in outcome.error
    assert len(outcome.error) < 1_000
    assert outcome.error.isprintable()
    assert outcome.stdout == ""
    # The weights of a target are read by the measuring process, for its template is to speak first.
    assert [status for status in left_behind(tmp_path) if status != "failed"] == []


def test_there_are_enough_of_every_kind() -> None:
    assert len(BAD_INPUTS) >= 250
