"""The class of spec=custom_class is found and checked without being imported."""

import hashlib
from pathlib import Path

import pytest

from specdec_bench.checkpoints.proposer import check_proposer, identify_proposer
from specdec_bench.errors import ConfigError

RAISES = "raise SystemExit('it was imported')\n"
WHOLE = "class Mine:\n    def propose(self): ...\n    def load_model(self): ...\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mine.Mine", "mine.py"),
        ("package.mine.Mine", "package/mine.py"),
        ("package.Mine", "package/__init__.py"),
        ("package.inner.Mine", "package/inner/__init__.py"),
    ],
)
def test_it_is_found_in_the_working_folder(folder: Path, name: str, file: str) -> None:
    write(folder / "package" / "__init__.py", RAISES)
    write(folder / file, RAISES + WHOLE)
    assert check_proposer(name) == folder / file


def test_it_is_found_on_the_path_of_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "elsewhere" / "far.py", WHOLE)
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    assert check_proposer("far.Mine") == tmp_path / "elsewhere" / "far.py"


@pytest.mark.parametrize(
    ("module", "file"),
    [
        ("both", "both/__init__.py"),
        ("outer.inner.both", "outer/inner/both/__init__.py"),
        ("spread.far", "elsewhere/spread/far.py"),
    ],
)
def test_it_is_the_file_that_python_would_import(
    folder: Path, monkeypatch: pytest.MonkeyPatch, module: str, file: str
) -> None:
    """A package comes before a module of its name, and a package anywhere before a folder without __init__.py."""
    packages = ("both", "outer/inner/both", "elsewhere/spread")
    for written in ("both.py", "outer/inner/both.py", "spread/far.py", "elsewhere/spread/far.py"):
        write(folder / written, WHOLE)
    for package in packages:
        write(folder / package / "__init__.py", WHOLE)
    monkeypatch.syspath_prepend(folder / "elsewhere")
    assert check_proposer(f"{module}.Mine") == folder / file


@pytest.mark.parametrize(
    "text",
    [
        "from base import Mine\n",
        "from base import Other as Mine\n",
        "from base import Base\nclass Mine(Base): ...\n",
        "from base import f\nclass Mine:\n    propose = load_model = f\n",
    ],
)
def test_what_another_module_gives_it_is_left_to_vllm(folder: Path, text: str) -> None:
    write(folder / "mine.py", text)
    assert check_proposer("mine.Mine") == folder / "mine.py"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gone.Mine", "no file of a module gone"),
        ("mine.inner.Mine", "no file of a module mine.inner"),
        ("sys.Mine", "no file of a module sys"),
        ("mine.Other", "has no class Other"),
        ("mine.value", "has no class value"),
        ("half.Mine", r"the class has no load_model\(\); vLLM calls propose and load_model"),
        ("broken.Mine", "broken.py cannot be read: invalid syntax"),
        ("binary.Mine", "binary.py cannot be read"),
    ],
)
def test_what_is_no_such_class_is_refused(folder: Path, name: str, words: str) -> None:
    write(folder / "mine.py", WHOLE + "value = 1\n")
    write(folder / "half.py", "class Mine:\n    def propose(self): ...\n")
    write(folder / "broken.py", "class Mine(:\n")
    (folder / "binary.py").write_bytes(b"\0\xff")
    with pytest.raises(ConfigError, match=rf"^spec\.proposer={name}: .*{words}"):
        check_proposer(name)


def test_it_is_identified_by_its_file(folder: Path) -> None:
    write(folder / "mine.py", WHOLE)
    before = identify_proposer("mine.Mine")
    assert before.path == "mine.Mine"
    assert before.files["mine.py"].sha256 == hashlib.sha256(WHOLE.encode()).hexdigest()
    write(folder / "mine.py", WHOLE + "\n")
    assert identify_proposer("mine.Mine").fingerprint != before.fingerprint
