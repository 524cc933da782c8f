"""engine=tensorrt_llm_server through the command line, on a stand-in for trtllm-serve."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.command_line import ROOT, CommandLine, measured, read_json

STAND_INS = str(ROOT / "tests" / "stand_ins")
EXPERIMENT = ["engine=tensorrt_llm_server", "sampling.max_new_tokens=16", "load.concurrency=2", "hydra.run.dir=run"]


def run(command_line: CommandLine, *overrides: str) -> Path:
    arguments = [*EXPERIMENT, "dataset=jsonl", f"dataset.path={command_line.prompts}", *overrides]
    outcome = command_line(*arguments, PYTHONPATH=f"{STAND_INS}:{ROOT}")
    assert outcome.status == 0, outcome.stderr
    return command_line.folder / "run"


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A server that runs already and drafts 3 tokens."""
    file = tmp_path / "arguments.yaml"
    file.write_text('{"speculative_config": {"decoding_type": "Eagle", "max_draft_len": 3}}')
    words = ["serve", "/models/target", "--host", "127.0.0.1", "--port", "0", "--backend", "pytorch"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tensorrt_llm.commands.serve", *words, "--extra_llm_api_options", str(file)],
        env={"PYTHONPATH": STAND_INS},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    process.kill()
    process.wait()
    process.stdout.close()


def assert_steps_are_exact(folder: Path) -> None:
    """Prefill 1; then 4, 1, 4, 1, 4 and 1: 15 tokens in 6 decode steps."""
    acceptance = read_json(folder / "summary.json")["acceptance"]
    assert acceptance["source"] == "engine_request"
    pooled = acceptance["pooled"]
    assert (pooled["output_tokens"], pooled["decode_steps"], pooled["acceptance_length"]) == (48, 18, 2.5)
    assert [pooled[name] for name in ("verify_steps", "proposed", "accepted", "draft_acceptance_rate")] == [None] * 4
    for record in measured(folder):
        assert record["steps_are_exact"]
        assert record["counters"]["num_decode_steps"] == 6


def test_a_server_that_the_run_starts(command_line: CommandLine) -> None:
    folder = run(command_line, "spec=eagle3", "spec.draft_length=3")
    assert_steps_are_exact(folder)
    engine = read_json(folder / "manifest.json")["engine"]
    assert engine["resolved"] == {"tensorrt_llm": "0.0.0+stand.in.of.3e906a0ed7c6"}
    assert engine["arguments"]["speculative_config"]["EagleDecodingConfig"]["max_draft_len"] == 3
    assert "skip_tokenizer_init" not in engine["arguments"]
    assert engine["claimed"] == []


def test_a_server_that_runs_already_tells_little(command_line: CommandLine, url: str) -> None:
    folder = run(command_line, "spec=eagle3", "spec.draft_length=3", f"engine.url={url}")
    assert_steps_are_exact(folder)
    claimed = read_json(folder / "manifest.json")["engine"]["claimed"]
    assert {"model.path", "model.dtype", "spec", "spec.draft_length", "spec.draft.path"} <= set(claimed)


def test_a_server_that_drafts_is_no_baseline(command_line: CommandLine, url: str) -> None:
    outcome = command_line(*EXPERIMENT, "spec=none", f"engine.url={url}", PYTHONPATH=f"{STAND_INS}:{ROOT}")
    assert outcome.status == 2
    assert "it counts steps in another way than this project knows, or drafts" in outcome.error
