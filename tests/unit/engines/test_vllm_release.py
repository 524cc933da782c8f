"""What the installed vLLM's source says of its server's arguments."""

from pathlib import Path

import pytest

from specdec_bench.engines.vllm import release

ENGINE = """\
@config
class EngineArgs:
    model: str = "m"
    max_num_seqs: int | None = None
    plain = 1

class AsyncEngineArgs(EngineArgs):
    enable_log_requests: bool = False

def create(local: int): ...
"""
SERVER = "class FrontendArgs:\n    enable_per_request_metrics: bool = False\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package named vllm that cannot be imported, in front of the installed one."""
    package = tmp_path / "vllm"
    package.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    return package


def write(package: Path, name: str, text: str) -> None:
    (package / name).parent.mkdir(parents=True, exist_ok=True)
    (package / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize("place", ["openai", "launchers"])
def test_they_are_read_wherever_a_release_declares_them(package: Path, place: str) -> None:
    write(package, "engine/arg_utils.py", ENGINE)
    write(package, f"entrypoints/{place}/cli_args.py", SERVER)
    expected = frozenset({"model", "max_num_seqs", "enable_log_requests", "enable_per_request_metrics"})
    assert release.server_arguments() == expected


@pytest.mark.parametrize("text", [None, "class EngineArgs(:"])
def test_nothing_is_said_of_a_source_that_cannot_be_read(package: Path, text: str | None) -> None:
    if text is not None:
        write(package, "engine/arg_utils.py", text)
    assert release.server_arguments() is None
