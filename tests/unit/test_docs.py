"""README and docs say what is there: fields and options exist, links lead somewhere, commands are of a known kind."""

import re
from pathlib import Path

import pytest

from specdec_bench.config.compose import CONF, known_fields
from specdec_bench.config.schema.experiment import OPTIONS, OPTIONS_AROUND
from tests.helpers.documents import COMMANDS, COMPOSED_ONLY, DOCS, PAGES, ROOT

CODE = " ".join(code for page in PAGES for code in re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8")))
GROUPS = "|".join(OPTIONS | OPTIONS_AROUND)


@pytest.mark.parametrize("field", sorted(set(re.findall(rf"(?<![\w/.])((?:{GROUPS})\.[a-z_]+)\b(?![/.]py)", CODE))))
def test_every_field_exists(field: str) -> None:
    group, key = field.split(".")
    assert key in (known_fields(field) or ()) or key in ("differences", "unused", "dropped", "runner"), group


@pytest.mark.parametrize(
    "choice", sorted(set(re.findall(rf"(?<![\w.])((?:{GROUPS}|experiment)=[a-z0-9_]+)(?!\*)\b", CODE)))
)
def test_every_option_exists(choice: str) -> None:
    group, option = choice.split("=")
    assert (CONF / group / f"{option}.yaml").is_file() or choice == "experiment=nightly"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file(page: Path) -> None:
    """Sphinx checks those within docs/, but sees neither README nor CONTRIBUTING."""
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_readme_is_a_door() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 130


def test_every_block_has_a_known_kind_and_every_page_begins_with_a_command() -> None:
    assert {command.kind for command in COMMANDS} <= {"", *COMPOSED_ONLY}
    for page in DOCS.rglob("*.md"):
        if page.name not in ("migrating.md", "metrics.md"):
            assert re.match(r"# .+\n\n```bash", page.read_text(encoding="utf-8")), page
