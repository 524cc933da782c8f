"""Where a checkpoint's files are: a folder, below HF_HOME, or the cache's snapshot where no hub answers."""

from pathlib import Path

import pytest
from huggingface_hub import constants

from specdec_bench import hub
from specdec_bench.checkpoints.folders import folder_of
from specdec_bench.config.checkpoints import ASSETS
from specdec_bench.errors import ConfigError

COMMIT = "a" * 40


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds one file of owner/name; the hub does not answer."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "is_reachable", lambda: False)
    repository = tmp_path / "models--owner--name"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return snapshot


def test_a_folder_is_itself(tmp_path: Path) -> None:
    assert folder_of(str(tmp_path), None) == tmp_path
    assert folder_of("bundled:tiny/target", None) == ASSETS / "tiny" / "target"


@pytest.mark.parametrize("revision", [None, COMMIT])
def test_what_is_in_the_cache_is_found_there(cache: Path, revision: str | None) -> None:
    assert folder_of("owner/name", revision) == cache


@pytest.mark.parametrize(("path", "revision"), [("owner/other", None), ("owner/name", "b" * 40), ("/no/such", None)])
def test_what_is_not_is_named_with_its_setting(cache: Path, path: str, revision: str | None) -> None:
    with pytest.raises(ConfigError, match=rf"^spec\.draft\.path={path}: not in the cache, .*; pass a folder$"):
        folder_of(path, revision, "spec.draft.path")


def test_a_trained_drafter_is_below_hf_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    folder = tmp_path / "specdec_bench" / "trained" / "tiny" / "eagle3"
    folder.mkdir(parents=True)
    assert folder_of("trained:tiny/eagle3", None) == folder


def test_a_drafter_that_was_not_trained_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=r"^spec\.draft\.path=trained:x/y: .* run python training/train_smollm2\.py "):
        folder_of("trained:x/y", None, "spec.draft.path")
