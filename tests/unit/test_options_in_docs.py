"""The pages that list the options of conf list all of them, and the drafts that each model names."""

import re

import pytest
import yaml

from specdec_bench.config.compose import CONF
from tests.helpers.documents import DOCS

PATTERNS = re.compile(r"`([^`]+)`")
GROUPS = ("engine", "model", "dataset", "spec", "load", "sampling", "tracking", "experiment")
OF_ONE_S_OWN = ("tiny", "custom")
"""Models that docs/models.md describes elsewhere."""


def _rows(page: str, first_header: str) -> list[list[str]]:
    """Returns the cells of a Markdown table."""
    text = (DOCS / page).read_text(encoding="utf-8")
    lines = text[text.index(f"| {first_header} |") :].split("\n\n", 1)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def _options(group: str) -> set[str]:
    return {path.stem for path in (CONF / group).glob("*.yaml")}


@pytest.mark.parametrize("group", GROUPS)
def test_configuration_lists_each_option(group: str) -> None:
    listed: set[str] = set()
    row_group = ""
    for name, options, _ in _rows("configuration.md", "group"):
        row_group = name.strip("`") or row_group
        if row_group == group:
            listed.update(PATTERNS.findall(options))
    families = tuple(option.rstrip("*") for option in listed if option.endswith("*"))
    found = _options(group)
    assert {option for option in found if option not in listed and not option.startswith(families)} == set()
    assert {option for option in listed if option not in found and not option.endswith("*")} == set()


def test_models_names_each_published_model_and_its_drafts() -> None:
    listed = {
        model: set(PATTERNS.findall(drafts))
        for models, _, drafts in _rows("models.md", "`model=`")
        for model in PATTERNS.findall(models)
    }
    named = {
        model: set(yaml.safe_load((CONF / "model" / f"{model}.yaml").read_text(encoding="utf-8")).get("drafts", {}))
        for model in _options("model")
        if model not in OF_ONE_S_OWN
    }
    assert listed == named


def test_validation_names_each_experiment_with_published_values() -> None:
    listed = [PATTERNS.findall(name)[0] for name, *_ in _rows("validation.md", "experiment")]
    paths = (CONF / "experiment").glob("*.yaml")
    assert sorted(listed) == sorted(path.stem for path in paths if "\nexpected:" in path.read_text(encoding="utf-8"))
