"""The real vLLM on the bundled models, through the command line, against the transformers engine.

One sweep: 4 methods x 2 concurrencies. A machine without vLLM fails here; that is meant.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from engine_runs import DRAFT, TARGET, raw_model
from reference.draft_and_verify import GreedyModel

from specdec_bench.archive import RunDirectory
from specdec_bench.config.checkpoints import resolve
from specdec_bench.records import RequestRecord

ROOT = Path(__file__).resolve().parents[2]
METHODS = ("none", "ngram", "draft_model", "eagle3")
CONCURRENCIES = (1, 16)
COMMON = ["model.dtype=float32", "sampling.max_new_tokens=48", "load.num_warmup=2"]
VLLM = ["engine=vllm", "engine.enforce_eager=true"]  # compiling takes longer than the runs
NEAR_TIE = 1e-3

pytestmark = pytest.mark.timeout(1200)


def command_line(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    # Nested child processes start several times faster with compiled modules.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        encoding="utf-8",
    )


def succeed(folder: Path, *arguments: str) -> None:
    done = command_line(folder, *arguments)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], RunDirectory]:
    """The finished cells by method and concurrency."""
    folder = tmp_path_factory.mktemp("vllm")
    grid = [f"spec={','.join(METHODS)}", f"load.concurrency={','.join(map(str, CONCURRENCIES))}"]
    succeed(folder, "-m", *VLLM, *COMMON, *grid, "hydra.sweep.dir=sweep")
    cells = [(method, concurrency) for method in METHODS for concurrency in CONCURRENCIES]
    return {cell: RunDirectory.open(folder / "sweep" / str(number)) for number, cell in enumerate(cells)}


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunDirectory]:
    """What the transformers engine makes of the same prompts, by method."""
    folder = tmp_path_factory.mktemp("transformers")
    succeed(folder, "-m", *COMMON, "spec=none,ngram,draft_model", "hydra.sweep.dir=sweep")
    return {
        method: RunDirectory.open(folder / "sweep" / str(number)) for number, method in enumerate(METHODS) if number < 3
    }


def requests(run: RunDirectory) -> dict[str, RequestRecord]:
    return {record.request_id: record for record in run.requests() if record.phase == "measure"}


def pooled(run: RunDirectory) -> dict[str, Any]:
    figures: dict[str, Any] = run.summary()["acceptance"]["pooled"]
    return figures


@pytest.mark.parametrize("concurrency", CONCURRENCIES)
@pytest.mark.parametrize("method", METHODS)
def test_outputs_are_those_of_transformers(
    sweep: dict[tuple[str, int], RunDirectory], truth: dict[str, RunDirectory], method: str, concurrency: int
) -> None:
    expected, found = requests(truth["none"]), requests(sweep[method, concurrency])
    assert len(found) == 50
    assert found.keys() == expected.keys()
    model = GreedyModel(raw_model(TARGET, "float64"))
    divergences = []
    for request_id, record in found.items():
        other = expected[request_id]
        if record.prompt_token_ids != other.prompt_token_ids:
            continue  # the reply before it diverged, which is listed with that one
        if record.output_token_ids != other.output_token_ids:
            at = first_difference(record.output_token_ids, other.output_token_ids)
            gap = model.gap((*record.prompt_token_ids, *record.output_token_ids[:at]))
            divergences.append((request_id, at, gap))
    assert all(gap < NEAR_TIE for *_, gap in divergences), divergences
    assert len(divergences) <= 0.05 * 40, divergences


def first_difference(left: Sequence[int], right: Sequence[int]) -> int:
    pairs = enumerate(zip(left, right, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(left), len(right)))


@pytest.mark.parametrize("concurrency", CONCURRENCIES)
@pytest.mark.parametrize("method", ["ngram", "draft_model"])
def test_acceptance_is_that_of_transformers_step_for_step(
    sweep: dict[tuple[str, int], RunDirectory], truth: dict[str, RunDirectory], method: str, concurrency: int
) -> None:
    """All but each request's last decode step, which vLLM does not shorten to what the request may still emit.

    transformers' lookup drops a proposal that begins with a stop token, where vLLM verifies and rejects it: such a
    step accepts nothing in either. So of n-grams the steps' tokens and the accepted drafts are compared, not which
    of the steps that accepted nothing had something to verify.
    """
    expected, found = requests(truth[method]), requests(sweep[method, concurrency])
    compared = 0
    for request_id, record in found.items():
        other = expected[request_id]
        same = (record.prompt_token_ids, record.output_token_ids) == (other.prompt_token_ids, other.output_token_ids)
        if not same or len(other.steps) < 2:
            continue
        assert record.counters is not None
        told = list(record.counters.per_step_accepted or ())
        drafted = [step.num_accepted for step in other.steps[1:-1] if step.num_proposed]
        if method == "ngram":
            told, drafted = ([number for number in numbers if number] for numbers in (told, drafted))
        assert told[: len(drafted)] == drafted, request_id
        assert len(told) - len(drafted) in (0, 1), request_id
        assert [step.num_tokens for step in record.steps] == [step.num_tokens for step in other.steps], request_id
        compared += 1
    assert compared >= 0.9 * len(found)


@pytest.mark.parametrize("concurrency", CONCURRENCIES)
@pytest.mark.parametrize("method", METHODS[1:])
def test_request_counts_and_the_engines_totals_agree_exactly(
    sweep: dict[tuple[str, int], RunDirectory], method: str, concurrency: int
) -> None:
    acceptance = sweep[method, concurrency].summary()["acceptance"]
    assert acceptance["source"] == "engine_request"
    assert acceptance["cross_check"]["verify_steps"] > 100
    assert set(acceptance["cross_check"]["difference"].values()) == {0}


@pytest.mark.parametrize("concurrency", CONCURRENCIES)
@pytest.mark.parametrize("method", METHODS)
def test_every_chunk_is_one_engine_step(
    sweep: dict[tuple[str, int], RunDirectory], method: str, concurrency: int
) -> None:
    run = sweep[method, concurrency]
    longest = 1 if method == "none" else 4
    for record in requests(run).values():
        assert record.steps_are_exact
        assert record.steps[0].num_tokens == 1
        assert all(1 <= step.num_tokens <= longest for step in record.steps)
        times = [step.received_ns for step in record.steps]
        assert times == sorted(times)
    summary = run.summary()
    assert summary["merged_chunks"] == 0
    assert summary["latency"]["step_time_ms"]["count"] == pooled(run)["decode_steps"]


def test_the_methods_accept_as_much_as_they_should(sweep: dict[tuple[str, int], RunDirectory]) -> None:
    lengths = {method: pooled(sweep[method, 1])["acceptance_length"] for method in METHODS}
    assert lengths["none"] == 1
    assert lengths["ngram"] > 1.2
    assert 1.6 < lengths["draft_model"] < 3.2
    assert lengths["eagle3"] >= 1.8


def test_a_sweep_starts_one_engine_for_each_method(sweep: dict[tuple[str, int], RunDirectory]) -> None:
    manifests = {cell: run.manifest() for cell, run in sweep.items()}
    assert [manifest.engine["reused"] for manifest in manifests.values()] == [False, True] * len(METHODS)
    # Fixed for the sweep: its largest concurrency, not the cell's own.
    assert {manifest.engine["arguments"]["max_num_seqs"] for manifest in manifests.values()} == {16}
    assert {manifest.engine["resolved"]["scheduler_config"]["max_num_seqs"] for manifest in manifests.values()} == {16}


def test_an_engine_core_that_is_killed_ends_the_run_in_one_line(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), *VLLM, "spec=none", "load.repeats=1000", "hydra.run.dir=run"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 300
        while not (run / "requests.jsonl").is_file() or (run / "requests.jsonl").read_text().count("\n") < 5:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.kill(engine_core(process.pid), signal.SIGKILL)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 1
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert "engine core died" in line
    manifest, summary = (json.loads((run / name).read_text()) for name in ("manifest.json", "summary.json"))
    assert (manifest["status"], summary["partial"]) == ("failed", True)
    assert summary["requests"]["finished"] >= 4


def engine_core(pid: int) -> int:
    """Returns the pid of vLLM's engine core below a process."""
    stats = [path.read_text() for path in Path("/proc").glob("[0-9]*/stat")]
    parents = {int(stat.split()[0]): int(stat.rpartition(")")[2].split()[1]) for stat in stats}
    names = {int(stat.split()[0]): stat[stat.index("(") + 1 : stat.rindex(")")] for stat in stats}
    below = {pid}
    while more := {child for child, parent in parents.items() if parent in below} - below:
        below |= more
    (core,) = [child for child in below if names[child].startswith("VLLM::EngineCor")]
    return core


@pytest.mark.parametrize(
    ("overrides", "status", "words"),
    [
        (["+engine.extra_args.swap_spaec=1"], 2, "engine.extra_args.swap_spaec: vLLM"),
        (["+engine.extra_args.max_model_len=1"], 2, "use model.max_seq_len"),
        (["model.max_seq_len=100000"], 1, "did not start"),
        (["spec=draft_model", "spec.draft.path=wider"], 2, "its vocabulary has 4096 tokens, the target's 2048"),
    ],
)
def test_what_vllm_cannot_run_is_one_line(tmp_path: Path, overrides: list[str], status: int, words: str) -> None:
    wider = tmp_path / "wider"
    shutil.copytree(resolve(DRAFT), wider)
    config = (wider / "config.json").read_text()
    (wider / "config.json").write_text(config.replace('"vocab_size": 2048', '"vocab_size": 4096'))
    done = command_line(tmp_path, *VLLM, "spec=none", *overrides)
    assert done.returncode == status
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert words in line
