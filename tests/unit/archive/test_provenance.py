import getpass
import json
import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

import specdec_bench
from specdec_bench.archive import provenance
from tests.helpers.archive_samples import start_python

ROOT = Path(specdec_bench.__file__).resolve().parent.parent


def test_environment_names_the_machine_and_the_releases() -> None:
    result = provenance.environment()
    assert result["python"]["version"] == ".".join(map(str, sys.version_info[:3]))
    assert result["kernel"].split()[0] == os.uname().sysname
    assert result["cpu"]["num_logical"] == os.cpu_count()
    assert result["cpu"]["num_physical"] is None or 1 <= result["cpu"]["num_physical"] <= result["cpu"]["num_logical"]
    assert result["memory_bytes"] > 2**28
    assert result["packages"]["hydra-core"].startswith("1.3")
    assert None not in result["packages"].values()
    json.dumps(result, allow_nan=False)


def test_environment_names_no_person_and_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_do_not_tell")
    text = json.dumps(provenance.environment() | {"project": provenance.project()})
    for private in (socket.gethostname(), str(Path.home()), str(ROOT), "hf_do_not_tell"):
        assert private not in text
    words = set(text.replace('"', " ").replace(",", " ").split())
    assert getpass.getuser() not in words


def test_thread_settings_are_those_that_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in provenance.THREAD_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert provenance.environment()["thread_settings"] == {"OMP_NUM_THREADS": "4"}


def test_torch_is_asked_only_if_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert provenance.environment()["accelerators"] is None
    assert "torch" not in sys.modules
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False)))
    assert provenance.environment()["accelerators"] == []


def test_accelerators(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(name="NVIDIA H100", total_memory=80 * 2**30, major=9, minor=0)
    cuda = SimpleNamespace(
        is_available=lambda: True, device_count=lambda: 2, get_device_properties=lambda index: properties
    )
    torch = SimpleNamespace(cuda=cuda, version=SimpleNamespace(cuda="12.8"))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(provenance, "_driver_version", lambda: "570.86.15")
    device = {
        "name": "NVIDIA H100",
        "memory_bytes": 80 * 2**30,
        "compute_capability": "9.0",
        "driver_version": "570.86.15",
        "cuda_version": "12.8",
    }
    assert provenance.environment()["accelerators"] == [device, device]


@pytest.mark.parametrize(
    ("proc", "smi", "expected"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19", None, "535.104.05"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release", None, "570.86.15"),
        ("", "580.65.06\n580.65.06", "580.65.06"),
        ("", "", None),
        ("", None, None),
    ],
)
def test_driver_version(monkeypatch: pytest.MonkeyPatch, proc: str, smi: str | None, expected: str | None) -> None:
    monkeypatch.setattr(provenance, "_read", lambda path: proc)
    monkeypatch.setattr(provenance, "_output", lambda command: smi)
    assert provenance._driver_version() == expected


# ---------------------------------------------------------------- project


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.invalid", "-c", "commit.gpgsign=false")
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, env=variables, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a package in it that is taken for the project's."""
    package = tmp_path / "checkout" / "specdec_bench"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    git(package.parent, "init", "-q")
    monkeypatch.setattr(provenance, "_PACKAGE", package)
    return package.parent


NOTHING = {"version": specdec_bench.__version__, "git_commit": None, "git_dirty": None}


def test_project_in_its_checkout(checkout: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    git(checkout, "add", ".")
    assert provenance.project() == NOTHING  # no commit yet
    git(checkout, "commit", "-q", "-m", "first")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "of-a-hook"))
    clean = {"version": specdec_bench.__version__, "git_commit": git(checkout, "rev-parse", "HEAD"), "git_dirty": False}
    assert provenance.project() == clean
    (checkout / "new.py").write_text("")
    assert provenance.project() == clean | {"git_dirty": True}
    (checkout / ".gitignore").write_text("new.py\n")
    git(checkout, "add", ".gitignore")
    git(checkout, "commit", "-q", "-m", "second")
    assert provenance.project()["git_dirty"] is False
    (checkout / "specdec_bench" / "__init__.py").write_text("changed = True\n")
    assert provenance.project()["git_dirty"] is True


def test_project_in_somebody_elses_checkout(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / "theirs.py").write_text("")
    git(checkout, "add", "theirs.py")
    git(checkout, "commit", "-q", "-m", "theirs")
    assert provenance.project() == NOTHING  # beside their files, but not one of them
    package = checkout / ".venv" / "specdec_bench"
    package.mkdir(parents=True)
    monkeypatch.setattr(provenance, "_PACKAGE", package)
    assert provenance.project() == NOTHING


def test_project_without_git(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert provenance.project() == NOTHING


def test_project_with_a_git_that_hangs(checkout: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\nexec sleep 30\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(provenance, "_TIMEOUT_S", 0.1)
    assert provenance.project() == NOTHING


# ---------------------------------------------------------------- clocks


def test_utc_now_is_utc() -> None:
    now = datetime.fromisoformat(provenance.utc_now())
    assert now.utcoffset() == timedelta(0)
    assert abs(now - datetime.now(UTC)) < timedelta(seconds=10)


def test_clock_reads_both_at_once() -> None:
    before = time.perf_counter_ns()
    reading = provenance.clock()
    assert before <= reading["monotonic_ns"] <= time.perf_counter_ns()
    assert set(reading) == {"monotonic_ns", "utc"}


def test_run_ids_sort_by_time_and_never_repeat() -> None:
    ids = []
    for _ in range(100):
        ids.append(provenance.new_run_id())
        time.sleep(0.00002)
    assert ids == sorted(ids)
    assert len({provenance.new_run_id() for _ in range(1000)}) == 1000
    assert all(character.isalnum() or character in ".-" for character in ids[0])


# ---------------------------------------------------------------- what is loaded


_IMPORTS = """
import sys
import specdec_bench.archive
from specdec_bench.archive import provenance
provenance.environment()
heavy = {"pandas", "numpy", "torch", "omegaconf", "hydra", "transformers"} & set(sys.modules)
assert not heavy, heavy
assert sorted(specdec_bench.archive.__all__) == specdec_bench.archive.__all__
try:
    specdec_bench.archive.missing
except AttributeError as error:
    assert "missing" in str(error)
else:
    raise AssertionError
specdec_bench.archive.load
assert "pandas" in sys.modules
"""


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert start_python(_IMPORTS).wait(60) == 0
