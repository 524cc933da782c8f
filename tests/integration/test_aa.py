"""`summarize --aa`, with an encoding of two known merges in the place of o200k_base."""

from pathlib import Path

import pytest
import tiktoken

from tests.helpers.archive_samples import make_prompt
from tests.helpers.command_line import read_json
from tests.helpers.in_process import run
from tests.helpers.made_archives import reply, write_run

RANKS = {bytes([byte]): byte for byte in range(256)} | {b"AB": 256, b"CD": 257}
PROMPTS = [make_prompt(0), make_prompt(1)]


@pytest.fixture
def encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    made = tiktoken.Encoding("o200k_base", pat_str=r".+", mergeable_ranks=RANKS, special_tokens={"<|end|>": 258})
    monkeypatch.setattr(tiktoken, "get_encoding", {"o200k_base": made}.__getitem__)


def test_a_run_and_the_cells_of_a_sweep_get_their_rates(tmp_path: Path, encoding: None) -> None:
    records = [reply(PROMPTS[0], (3, 1)), reply(PROMPTS[1], (2, 0))]
    written = write_run(tmp_path / "one", records, PROMPTS)
    before = written.summary_path.read_bytes()
    shown = run(tmp_path, "summarize", "one", "--aa")
    assert (shown.status, shown.stderr) == (0, "")
    line = "o200k_base tokens/s: 150.0 per request (median), 66.7 in all; 0.667 for each output token"
    assert f"one/aa.json: {line}" in shown.stdout
    found = read_json(tmp_path / "one" / "aa.json")
    # AB CD E F G and AB CD E, of which A came with the first chunk: 4 and 2 tokens in 20 ms each
    assert found["aa_tokens"] == 8
    assert found["aa_output_tps_per_request"]["p50"] == pytest.approx((200 + 100) / 2)
    assert found["aa_output_tps_per_user"] == pytest.approx(6 / 0.04)
    assert written.summary_path.read_bytes() == before


def test_the_measured_archive_tells_the_first_chunk(tmp_path: Path, encoding: None) -> None:
    experiment = ("engine=synthetic", "spec=ngram", "dataset.num_prompts=2", "sampling.max_new_tokens=8")
    assert run(tmp_path, "-m", *experiment, "spec.draft_length=1,2", "hydra.sweep.dir=sweep").status == 0
    assert run(tmp_path, "summarize", "sweep", "--aa").status == 0
    for cell in ("0", "1"):
        found = read_json(tmp_path / "sweep" / cell / "aa.json")
        assert found["num_requests"] == found["aa_output_tps_per_request"]["count"] > 0
        assert found["num_without_speed"] == 0


def test_a_vocabulary_that_cannot_be_fetched_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str) -> bytes:
        raise ConnectionError("no network")

    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("tiktoken.load.read_file", fail)
    refused = run(tmp_path, "summarize", "one", "--aa")
    assert refused.status == 2
    assert "--aa: the vocabulary of o200k_base cannot be fetched: no network; set TIKTOKEN_CACHE_DIR" in refused.error
