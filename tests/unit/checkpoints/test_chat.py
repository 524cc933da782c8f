"""Conversations to token ids, with a tokenizer of seventeen words that is built here."""

import json
from pathlib import Path
from typing import Any

import pytest

from specdec_bench import hub
from specdec_bench.checkpoints import chat as chatting
from specdec_bench.checkpoints.prompter import BytePrompter
from specdec_bench.config.schema.engine import EngineConfig, SyntheticEngine, TransformersEngine
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.config.schema.model import ModelConfig
from specdec_bench.errors import ConfigError
from tests.helpers import build
from tests.helpers.word_tokenizer import IDS, TEMPLATE, NewCheckpoint, chat, ids


def test_the_first_turn_by_hand(checkpoint: NewCheckpoint) -> None:
    assert chat(checkpoint()).encode(None, ["hello there"], []) == ids("<s> <user> hello there <end> <bot>")


def test_turns_and_replies_come_in_the_order_in_which_they_were_said(checkpoint: NewCheckpoint) -> None:
    found = chat(checkpoint()).encode("be brief", ["hello", "how are you", "good bye"], ["there", "fine"])
    assert found == ids(
        "<s> <sys> be brief <end> <user> hello <end> <bot> there <end> "
        "<user> how are you <end> <bot> fine <end> <user> good bye <end> <bot>"
    )


@pytest.mark.parametrize("system", [None, "be brief"])
def test_the_beginning_of_sequence_stands_once(checkpoint: NewCheckpoint, system: str | None) -> None:
    """The template writes it and the tokenizer would add another: a second one shifts the model's acceptance."""
    prompter = chat(checkpoint())
    assert prompter._tokenizer("hello")["input_ids"] == list(ids("<s> hello")), "else this test shows nothing"
    found = prompter.encode(system, ["hello", "good"], ["there"])
    assert found.count(IDS["<s>"]) == 1
    assert found[0] == IDS["<s>"]


def test_a_template_without_a_beginning_of_sequence_gets_none(checkpoint: NewCheckpoint) -> None:
    path = checkpoint(TEMPLATE.removeprefix("{{ bos_token }}"))
    assert chat(path).encode(None, ["hello"], []) == ids("<user> hello <end> <bot>")


def test_the_next_prompt_begins_with_the_one_before(checkpoint: NewCheckpoint) -> None:
    """What the model has read and said stays as it was, so that only the new turn is new to it."""
    prompter = chat(checkpoint())
    first = prompter.encode("be brief", ["hello"], [])
    second = prompter.encode("be brief", ["hello", "how are you"], ["there"])
    assert second[: len(first)] == first
    assert second[len(first) :] == ids("there <end> <user> how are you <end> <bot>")


def test_an_empty_system_message_is_one(checkpoint: NewCheckpoint) -> None:
    """A dataset that says "" means something else than one that says nothing."""
    assert chat(checkpoint()).encode("", ["hello"], []) == ids("<s> <sys> <end> <user> hello <end> <bot>")


def test_a_reply_is_read_without_special_tokens(checkpoint: NewCheckpoint) -> None:
    prompter = chat(checkpoint())
    assert prompter.decode(ids("fine good <end>")) == "fine good"
    assert prompter.decode(ids("</s>")) == prompter.decode(()) == ""


@pytest.mark.parametrize(
    ("generation", "expected"),
    [
        (None, "</s>"),
        ({"eos_token_id": IDS["<end>"]}, "</s> <end>"),
        ({"eos_token_id": [IDS["<end>"], IDS["<user>"], IDS["</s>"]]}, "</s> <user> <end>"),
        ({"temperature": 0.5}, "</s>"),
    ],
    ids=["no generation config", "one id", "several ids", "none of them"],
)
def test_every_token_that_ends_a_reply_is_known(
    checkpoint: NewCheckpoint, generation: dict[str, Any] | None, expected: str
) -> None:
    """The generation config's ids and the tokenizer's own, each once, in order."""
    assert chat(checkpoint(generation=generation)).stop_token_ids == ids(expected)


def test_a_tokenizer_without_a_chat_template_is_refused(checkpoint: NewCheckpoint) -> None:
    with pytest.raises(ConfigError, match="its tokenizer has no chat template; choose a chat model, or pass"):
        chat(checkpoint(template=None))


def test_a_folder_without_a_tokenizer_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"model\.path={tmp_path}: no tokenizer can be loaded") as caught:
        chat(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_hub_that_does_not_answer_is_noticed_before_transformers_asks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "is_reachable", lambda: False)
    with pytest.raises(
        ConfigError, match=r"model\.path=nobody/nothing: not in the cache, and the hub cannot be reached"
    ):
        chat("nobody/nothing")


def experiment(engine: EngineConfig, model: ModelConfig) -> ExperimentConfig:
    return build.experiment(engine=engine, model=model)


def test_the_synthetic_engine_needs_no_tokenizer() -> None:
    config = experiment(SyntheticEngine(vocab_size=10), ModelConfig(name="m", path="/nowhere"))
    prompter = chatting.create(config)
    assert isinstance(prompter, BytePrompter)
    assert max(prompter.encode(None, ["hello"], [])) < 10


def test_the_tokenizer_is_the_models_unless_another_is_named(checkpoint: NewCheckpoint, tmp_path: Path) -> None:
    """The other's folder says nothing of where the model ends its replies."""
    path = str(checkpoint(generation={"eos_token_id": IDS["<bot>"]}))
    weights = tmp_path / "weights alone"
    weights.mkdir()
    (weights / "config.json").write_text(json.dumps({"eos_token_id": IDS["<end>"]}))
    for model, stops in (
        (ModelConfig(name="m", path=path), "</s> <bot>"),
        (ModelConfig(name="m", path=str(weights), tokenizer=path), "</s> <end>"),
    ):
        prompter = chatting.create(experiment(TransformersEngine(), model))
        assert prompter.encode(None, ["hello"], []) == ids("<s> <user> hello <end> <bot>")
        assert prompter.stop_token_ids == ids(stops)
