"""What docs/migrating.md tells to type is there."""

import re
from pathlib import Path

import pytest

from specdec_bench.config.compose import CONF, known_fields
from specdec_bench.config.schema.experiment import OPTIONS

MIGRATING = (Path(__file__).parents[2] / "docs" / "migrating.md").read_text(encoding="utf-8")
CODE = " ".join(re.findall(r"`([^`\n]+)`", MIGRATING))
GROUPS = "|".join(OPTIONS)


@pytest.mark.parametrize("name", sorted(set(re.findall(rf"\b((?:{GROUPS})\.[a-z_]+)", CODE))))
def test_every_field_exists(name: str) -> None:
    assert name.split(".")[1] in (known_fields(name) or ())


@pytest.mark.parametrize("choice", sorted(set(re.findall(rf"\b((?:{GROUPS}|experiment)=[a-z0-9_]+)", CODE))))
def test_every_option_exists(choice: str) -> None:
    group, option = choice.split("=")
    assert (CONF / group / f"{option}.yaml").is_file()
