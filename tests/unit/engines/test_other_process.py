from pathlib import Path

import msgspec
import pytest

from specdec_bench.engines import other_process


class Told(msgspec.Struct):
    version: str


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("print('a banner'); print('{\"version\": \"1.2\"}')", Told("1.2")),
        ("print('\"No module named engine\"')", "No module named engine"),
        ("print('{\"version\": 3}')", "importing it ended with status 0"),
        ("raise SystemExit(3)", "importing it ended with status 3"),
        ("import time; time.sleep(60)", "importing it took more than 2 s"),
    ],
)
def test_what_a_module_prints_last_is_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, expected: Told | str
) -> None:
    (tmp_path / "tells.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(other_process, "TIMEOUT_S", 2.0)
    assert other_process.ask("tells", Told) == expected
