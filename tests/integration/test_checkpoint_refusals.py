"""Checkpoints as real uploads get them wrong, through the command line: one line, exit 2, before an engine starts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from specdec_bench.config.checkpoints import ASSETS
from tests.helpers.command_line import CommandLine, Outcome, measured, read_json, requests
from tests.helpers.in_process import InProcess

TEMPLATE = json.loads((ASSETS / "tiny/target/tokenizer_config.json").read_text(encoding="utf-8"))["chat_template"]
ONLY_ONE_TURN = "{% if messages|length > 1 %}{{ raise_exception('Only one turn') }}{% endif %}"
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system role') }}{% endif %}"
ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"

Variant = Callable[..., Path]


@pytest.fixture
def variant(tmp_path: Path) -> Variant:
    """Returns a function that copies a bundled checkpoint, fields of its JSON files changed."""

    def make(base: str = "target", **files: dict[str, Any]) -> Path:
        folder = tmp_path / base
        folder.mkdir()
        for source in (ASSETS / "tiny" / base).iterdir():
            (folder / source.name).write_bytes(source.read_bytes())
        for stem, changes in files.items():
            path = folder / f"{stem}.json"
            path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")
        return folder

    return make


def run(command_line: CommandLine, prompts: list[dict[str, Any]], *overrides: str) -> Outcome:
    """Measures plainly on transformers, four tokens a turn."""
    path = command_line.folder / "prompts.jsonl"
    path.write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts), encoding="utf-8")
    return command_line(
        *("engine=transformers", "spec=none", "dataset=jsonl", f"dataset.path={path}", "sampling.max_new_tokens=4"),
        *("load.num_warmup=0", "hydra.run.dir=run", *overrides),
    )


FINE = [{"prompt_id": "a", "turns": ["def add(a, b):"]}]


@pytest.mark.parametrize("engine", ["transformers", "vllm", "sglang"])
def test_before_any_process_starts(command_line: CommandLine, variant: Variant, engine: str) -> None:
    folder = variant(config={"max_position_embeddings": 64})
    outcome = run(
        InProcess.of(command_line),
        FINE,
        "model=custom",
        f"model.path={folder}",
        "model.max_seq_len=65",
        f"engine={engine}",
    )
    assert outcome.status == 2
    assert outcome.error == (
        "error: model.max_seq_len=65: the model has positions for 64 tokens; pass at most that, or null"
    )
    assert not (command_line.folder / "run").exists()


def test_a_file_that_is_there_and_broken_is_never_absent(command_line: CommandLine, variant: Variant) -> None:
    folder = variant()
    (folder / "generation_config.json").write_text('{"eos_token_id": [1, 204],}')
    outcome = run(InProcess.of(command_line), FINE, "model=custom", f"model.path={folder}")
    assert outcome.status == 2
    assert f"{folder}/generation_config.json: cannot be read as JSON" in outcome.error


def test_the_template_speaks_before_the_weights_load(command_line: CommandLine, variant: Variant) -> None:
    folder = variant(tokenizer_config={"chat_template": NO_SYSTEM + TEMPLATE})
    (folder / "model.safetensors").write_text("not weights")
    prompts = [*FINE, {"prompt_id": "b", "system": "Answer briefly.", "turns": ["def sub(a, b):"]}]
    outcome = run(command_line, prompts, "model=custom", f"model.path={folder}")
    assert outcome.status == 2
    assert outcome.error == (f"error: prompt b: the chat template of {folder} refuses the conversation: No system role")
    assert read_json(command_line.folder / "run" / "manifest.json")["status"] == "failed"


def test_a_template_that_does_not_end_is_given_up(command_line: CommandLine, variant: Variant) -> None:
    folder = variant(tokenizer_config={"chat_template": ENDLESS + TEMPLATE})
    outcome = run(command_line, FINE, "model=custom", f"model.path={folder}")
    assert outcome.status == 2
    assert "did not end within 5 s; pass another with model.chat_template=FILE" in outcome.error


def test_weights_of_another_model_are_named(command_line: CommandLine, variant: Variant) -> None:
    folder = variant(config={"hidden_size": 320})
    outcome = run(InProcess.of(command_line), FINE, "model=custom", f"model.path={folder}")
    assert outcome.status == 2
    assert f"{folder}/model.safetensors: tensor model.embed_tokens.weight has the shape [2048, 256]" in outcome.error


def test_a_late_turn_fails_alone_and_the_manifest_says_what_was_read(
    command_line: CommandLine, variant: Variant
) -> None:
    folder = variant(
        tokenizer_config={"chat_template": ONLY_ONE_TURN + TEMPLATE}, generation_config={"eos_token_id": [1, 204]}
    )
    prompts = [*FINE, {"prompt_id": "late", "turns": ["def left(x):", "def right(x):"]}, FINE[0] | {"prompt_id": "c"}]
    outcome = run(command_line, prompts, "model=custom", f"model.path={folder}")
    assert outcome.status == 0
    run_dir = command_line.folder / "run"
    assert [request["request_id"] for request in measured(run_dir)] == ["a/0/0", "late/0/0", "c/0/0"]
    (refused,) = [request for request in requests(run_dir) if request.get("error")]
    assert refused["request_id"] == "late/1/0"
    assert refused["error"]["kind"] == "encoding_error"
    assert refused["error"]["message"].startswith("prompt late, turn 2: the chat template of ")
    summary = read_json(run_dir / "summary.json")
    assert (summary["requests"]["finished"], summary["requests"]["failed"]) == (3, 1)
    assert "does not take a later turn of late" in " ".join(outcome.stdout.split())
    target = read_json(run_dir / "manifest.json")["checkpoints"]["target"]
    assert target["end_token_ids"] == [1, 204]
    assert target["facts"]["end_of_sequence"][0] == {
        "file": "generation_config.json",
        "token_ids": [1, 204],
        "used": True,
    }
