"""The real vLLM failing: one clear line, what finished is kept, and the next cell starts a fresh engine."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from engine_runs import DRAFT
from vllm_runs import ROOT, VLLM, command_line, succeed

from specdec_bench.archive import RunDirectory
from specdec_bench.config.checkpoints import resolve

pytestmark = pytest.mark.timeout(1200)


def test_an_engine_core_that_is_killed_ends_the_cell_in_one_line_and_the_next_starts_another(tmp_path: Path) -> None:
    run, after = tmp_path / "sweep" / "0", tmp_path / "sweep" / "1"
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), "-m", *VLLM, "spec=none", "load.repeats=1000,1",
         "sampling.max_new_tokens=16", "hydra.sweep.dir=sweep"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 300
        while not (run / "requests.jsonl").is_file() or (run / "requests.jsonl").read_text().count("\n") < 5:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.kill(engine_core(process.pid), signal.SIGKILL)
        _, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 1
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert "engine core died" in line
    manifest, summary = (json.loads((run / name).read_text()) for name in ("manifest.json", "summary.json"))
    assert (manifest["status"], summary["partial"]) == ("failed", True)
    assert summary["requests"]["finished"] >= 4
    next_manifest = RunDirectory.open(after).manifest()
    assert (next_manifest.status, next_manifest.engine["reused"]) == ("finished", False)


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
        (["model.path=nowhere/at/all"], 2, "model.path=nowhere/at/all: no such folder"),
        (["spec=draft_model", "spec.draft.path=wider"], 2, "its vocabulary has 4096 tokens, the target's 2048"),
        # The reason is in no exception of this process: vLLM's worker printed it.
        (["engine.cpu_kv_cache_gib=100000"], 1, "the first failure in run.log: ValueError: Available memory"),
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


def test_prompts_beyond_the_context_are_skipped_and_counted(tmp_path: Path) -> None:
    limits = ["model.max_seq_len=160", "sampling.max_new_tokens=64", "dataset.num_prompts=10"]
    succeed(tmp_path, *VLLM, "spec=none", *limits, "hydra.run.dir=run")
    run = RunDirectory.open(tmp_path / "run")
    records = [record for record in run.requests() if record.phase == "measure"]
    too_long = [len(record.prompt_token_ids) + 64 > 160 for record in records]
    assert any(too_long)
    assert [record.error is not None and record.error.kind == "context_overflow" for record in records] == too_long
    outcomes = run.summary()["requests"]
    assert (outcomes["finished"], outcomes["skipped"]) == (too_long.count(False), too_long.count(True))
