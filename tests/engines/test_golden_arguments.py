"""What each engine gets is what the reviewed files say; `python tests/golden/arguments.py` writes them anew."""

import json
from pathlib import Path

import pytest

from tests.golden import arguments

CASES = arguments.cases()


@pytest.mark.parametrize("name", CASES)
def test_the_arguments_are_those_that_were_reviewed(name: str) -> None:
    reviewed = json.loads((arguments.FILES / f"{name}.json").read_text(encoding="utf-8"))
    assert arguments.told(*CASES[name]) == reviewed


def test_no_file_is_left_of_a_pair_that_is_gone() -> None:
    files = {str(path.relative_to(arguments.FILES).with_suffix("")) for path in arguments.FILES.rglob("*.json")}
    assert files == set(CASES)


@pytest.mark.parametrize("path", sorted(arguments.FILES.rglob("spec_*.json")), ids=lambda path: str(path)[-40:])
def test_a_method_of_the_table_is_not_refused_and_differs_from_the_baseline_in_itself_alone(path: Path) -> None:
    """The same batch, cache and graphs; what may differ is the method, and what it cannot run with."""
    told, plain = (json.loads(file.read_text(encoding="utf-8")) for file in (path, path.parent / "spec_none.json"))
    differing = {name for name in told.keys() | plain.keys() if told.get(name) != plain.get(name)}
    assert differing <= {
        "speculative_config",
        "per_request_spec_decode_metrics",
        "disable_overlap_scheduler",
        *(name for name in differing if name.startswith("speculative_")),
    }
