"""Runs of other load generators, from files that these really wrote (tests/imports) and from broken ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from specdec_bench.archive import RunDirectory
from specdec_bench.archive.imports import aiperf, vllm_bench
from specdec_bench.errors import ArchiveInputError
from specdec_bench.runner.import_run import import_run
from tests.helpers.in_process import run

IMPORTS = Path(__file__).parents[2] / "imports"
AIPERF, VLLM = IMPORTS / "aiperf", IMPORTS / "vllm_bench.json"


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Returns a function that copies AIPerf's folder, with each line changed."""

    def copy(change: Callable[[dict[str, Any]], None] = lambda _: None, name: str = "aiperf") -> Path:
        lines = [json.loads(line) for line in (AIPERF / "profile_export.jsonl").read_text().splitlines()]
        for line in lines:
            change(line)
        (tmp_path / name).mkdir()
        (tmp_path / name / "profile_export.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (tmp_path / name / "inputs.json").write_bytes((AIPERF / "inputs.json").read_bytes())
        return tmp_path / name

    return copy


def test_aiperf_has_exact_counts_of_every_request(tmp_path: Path) -> None:
    """12 tokens: the prefill's, and 5 steps that accept 2, 0, 1, 3 and 2 of 3 drafts. AIPerf itself counts 24."""
    imported = aiperf.read(AIPERF, is_plain=False, drafts_always=True)
    assert (imported.tool, imported.model, imported.draft_length, imported.notes) == ("aiperf", "mock", 3, ())
    for request in imported.requests:
        assert request.counters is not None
        assert request.counters.per_step_accepted == (2, 0, 1, 3, 2)
        assert request.num_output_tokens == 12
        assert request.output_token_ids == request.prompt_token_ids == ()
    assert imported.requests[0].num_prompt_tokens == 5
    assert [(r.prompt_id, r.repeat) for r in imported.requests] == [(str(n), k) for k in (0, 1) for n in range(4)]
    assert imported.prompts[0].turns == ("l ending at the arri",)
    made = import_run(imported, tmp_path / "run", "draft_model", ["specdec-bench", "import"])
    summary = RunDirectory.open(made.path).summary()
    pooled = summary.acceptance.pooled
    assert (pooled.decode_steps, pooled.verify_steps, pooled.accepted, pooled.proposed) == (40, 40, 64, 120)
    assert (pooled.acceptance_length, pooled.acceptance_length_drafted) == (88 / 40, 1 + 64 / 40)
    assert pooled.acceptance_histogram == [8, 8, 16, 8]
    assert summary.acceptance.source == "engine_request"
    assert (summary.latency.step_time_ms.count, summary.latency.itl_ms.count) == (0, 0)
    assert summary.throughput.output_tokens == 96


def test_aiperf_times_are_its_own() -> None:
    """The first line of the file: 31.506439 ms and 59.187224 ms, sent 4.011712 ms after its credit was issued."""
    first = aiperf.read(AIPERF, is_plain=False, drafts_always=True).requests[0]
    assert first.sent_ns is not None
    assert first.sent_ns - first.scheduled_ns == 4_011_712
    assert [step.received_ns - first.sent_ns for step in first.steps] == [31_506_439, 59_187_224]
    assert [step.num_tokens for step in first.steps] == [1, 11]


def test_a_method_with_steps_without_drafts_has_no_decode_steps(tmp_path: Path) -> None:
    imported = aiperf.read(AIPERF, is_plain=False, drafts_always=False)
    pooled = import_run(imported, tmp_path / "run", "ngram", []).summary().acceptance.pooled
    assert (pooled.decode_steps, pooled.acceptance_length, pooled.verify_steps) == (None, None, 40)
    assert pooled.acceptance_length_drafted == 1 + 64 / 40


def test_without_counts_acceptance_is_unknown(tmp_path: Path, folder: Callable[..., Path]) -> None:
    path = folder(lambda line: line.pop("spec_decode_acceptance"))
    acceptance = (
        import_run(aiperf.read(path, is_plain=False, drafts_always=True), tmp_path / "run", "eagle3", [])
        .summary()
        .acceptance.pooled
    )
    assert (acceptance.acceptance_length, acceptance.accepted, acceptance.decode_steps) == (None, None, None)


def test_failed_and_cancelled_requests_are_kept_apart(folder: Callable[..., Path]) -> None:
    kinds = iter(["error", "cancelled", "warmup"])

    def change(line: dict[str, Any]) -> None:
        kind = next(kinds, None)
        if kind == "error":
            line["error"], line["metrics"] = {"message": "503"}, {}
        elif kind == "cancelled":
            line["metadata"]["was_cancelled"] = True
        elif kind == "warmup":
            line["metadata"]["benchmark_phase"] = "warmup"

    requests = aiperf.read(folder(change), is_plain=False, drafts_always=True).requests
    assert [request.error and request.error.kind for request in requests[:4]] == [
        "engine_error",
        "interrupted",
        None,
        None,
    ]
    assert [request.phase for request in requests[:4]] == ["measure", "measure", "warmup", "measure"]


def test_vllm_bench_has_the_servers_totals(tmp_path: Path) -> None:
    """6 requests of the same 5 steps."""
    imported = vllm_bench.read(VLLM, is_plain=False, drafts_always=True)
    summary = import_run(imported, tmp_path / "run", "draft_model", []).summary()
    pooled = summary.acceptance.pooled
    assert (pooled.decode_steps, pooled.verify_steps, pooled.accepted, pooled.proposed) == (30, 30, 48, 90)
    assert pooled.acceptance_histogram == [6, 6, 12, 6]
    assert pooled.acceptance_length == 66 / 30
    assert summary.acceptance.source == "engine_total"
    assert summary.acceptance.macro.acceptance_length is None
    assert summary.latency.ttft_ms.max == pytest.approx(13.850442)
    assert summary.latency.e2e_ms.max == pytest.approx(35.472947)
    assert summary.latency.queue_time_ms.max == pytest.approx(89.176407, abs=1e-5)
    assert summary.latency.step_time_ms.count == 0


def broken(**changes: Any) -> bytes:
    content = json.loads(VLLM.read_text()) | changes
    return json.dumps({name: value for name, value in content.items() if value is not ...}).encode()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not a result of vllm bench serve"),
        (b"[" * 100_000, "is not a result"),
        (broken(ttfts=...), "run vllm bench serve with --save-detailed"),
        (broken(ttfts=[0.1]), "lists have different lengths"),
        (broken(ttfts="x"), "is not a result"),
        (broken(ttfts=[-1.0] * 6), "request 0: TTFT -1000 ms"),
        (broken(output_lens=[-1] * 6), "a length makes no sense"),
        (broken(spec_decode_accepted_tokens=47), "does not add up"),
        (broken(spec_decode_per_position_acceptance_rates=[0.2, 0.6, 0.8]), "does not add up"),
    ],
)
def test_what_is_no_result_is_refused_in_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(content)
    with pytest.raises(ArchiveInputError) as refusal:
        vllm_bench.read(path, is_plain=False, drafts_always=True)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_counts_that_do_not_add_up_are_refused(folder: Callable[..., Path]) -> None:
    def change(line: dict[str, Any]) -> None:
        line["spec_decode_acceptance"]["num_accepted_draft_tokens"] = 9

    with pytest.raises(ArchiveInputError, match=r"line 1: its steps add up to \(5, 8, 15\), its totals"):
        aiperf.read(folder(change), is_plain=False, drafts_always=True)
    with pytest.raises(ArchiveInputError, match="has counts of speculation"):
        aiperf.read(AIPERF, is_plain=True, drafts_always=False)


def test_a_comparison_is_a_claim(tmp_path: Path, folder: Callable[..., Path]) -> None:
    def slow(line: dict[str, Any]) -> None:
        """Twice as long after the first token, and plain."""
        del line["spec_decode_acceptance"]
        metrics = line["metrics"]
        first, latency = metrics["time_to_first_token"]["value"], metrics["request_latency"]
        latency["value"] = first + 2 * (latency["value"] - first)

    plain = folder(slow, "plain")
    assert run(tmp_path, "import", "aiperf", plain, "--method=none", "--output=plain-run").status == 0
    arguments = ("import", "aiperf", AIPERF, "--method=draft_model", "--baseline=plain-run")
    refused = run(tmp_path, *arguments, "--output=other")
    assert refused.status == 2
    assert "pass --assume-matched to claim it" in refused.error
    outcome = run(tmp_path, *arguments, "--assume-matched", "--output=run")
    assert (outcome.status, outcome.stderr) == (0, "")
    assert (
        "CLAIMED speedup (TPOT) over plain-run: 2.000 (95% interval 2.000 to 2.000), 8 requests paired"
        in outcome.stdout
    )
    assert "IMPORTED from aiperf: not measured by this project" in outcome.stdout
    assert json.loads((tmp_path / "run" / "claimed.json").read_text())["is_claimed"] is True
    assert run(tmp_path, "summarize", "run").status == 0
    replayed = run(tmp_path, "replay", "run")
    assert replayed.status == 2
    assert "was imported from aiperf" in replayed.error
