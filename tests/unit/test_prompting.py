"""Conversations to token ids, with a tokenizer of seventeen words that is built here."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from specdec_bench import prompting
from specdec_bench.config.schema import (
    ClosedLoad,
    DemoDataset,
    EngineConfig,
    ExperimentConfig,
    ModelConfig,
    NoSpec,
    SamplingConfig,
    SyntheticEngine,
    TransformersEngine,
)
from specdec_bench.errors import ConfigError
from specdec_bench.prompting import BytePrompter, ChatPrompter

SPECIAL = ["<unk>", "<s>", "</s>", "<sys>", "<user>", "<bot>", "<end>"]
WORDS = ["be", "brief", "hello", "there", "how", "are", "you", "fine", "good", "bye"]
IDS = {word: index for index, word in enumerate([*SPECIAL, *WORDS])}

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ {'system': '<sys>', 'user': '<user>', 'assistant': '<bot>'}[message['role']] }}"
    " {{ message['content'] }} <end>{% endfor %}"
    "{% if add_generation_prompt %}<bot>{% endif %}"
)

NewCheckpoint = Callable[..., Path]


@pytest.fixture
def checkpoint(tmp_path: Path) -> NewCheckpoint:
    """Returns a function that writes a tokenizer which, as Llama's does, adds a BOS of its own when asked to."""

    def make(template: str | None = TEMPLATE, generation: dict[str, Any] | None = None) -> Path:
        tokenizer = Tokenizer(models.WordLevel(IDS, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", IDS["<s>"])])
        fast = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            unk_token="<unk>",
            bos_token="<s>",
            eos_token="</s>",
            additional_special_tokens=SPECIAL[3:],
            chat_template=template,
        )
        fast.save_pretrained(tmp_path)
        if generation is not None:
            (tmp_path / "generation_config.json").write_text(json.dumps(generation), encoding="utf-8")
        return tmp_path

    return make


def ids(text: str) -> tuple[int, ...]:
    return tuple(IDS[word] for word in text.split())


def chat(path: Path) -> ChatPrompter:
    return ChatPrompter(str(path), revision=None, trust_remote_code=False)


# ---------------------------------------------------------------- a chat model's


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
    """PEERS 6: the generation config's ids and the tokenizer's own, each once, in order."""
    assert chat(checkpoint(generation=generation)).stop_token_ids == ids(expected)


def test_a_tokenizer_without_a_chat_template_is_refused(checkpoint: NewCheckpoint) -> None:
    with pytest.raises(ConfigError, match="its tokenizer has no chat template; choose a chat model"):
        chat(checkpoint(template=None))


def test_a_folder_without_a_tokenizer_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"model\.path={tmp_path}: no tokenizer can be loaded") as caught:
        chat(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


# ---------------------------------------------------------------- the synthetic engine's


def test_bytes_are_tokens() -> None:
    prompter = BytePrompter(256)
    assert prompter.encode(None, ["Aé"], []) == (65, 0xC3, 0xA9)
    assert prompter.encode("S", ["T"], []) == (83, 10, 84)
    assert prompter.stop_token_ids == (0,)


def test_bytes_are_folded_into_a_small_vocabulary() -> None:
    assert BytePrompter(8).encode(None, ["AZ"], []) == (65 % 8, 90 % 8)


def test_any_text_has_bytes() -> None:
    assert BytePrompter(256).encode(None, ["\ud800"], []) == (0xED, 0xA0, 0x80)


def test_what_was_said_changes_the_bytes() -> None:
    prompter = BytePrompter(256)
    said = [prompter.encode(None, ["a", "b"], [reply]) for reply in ("x", "y")]
    assert said[0] != said[1]
    assert len(said[0]) == len("a\nb\nx")


def test_any_token_has_a_printable_stand_in() -> None:
    text = BytePrompter(100_000).decode([0, 94, 95, 99_999])
    assert text == " ~ " + chr(32 + 99_999 % 95)
    assert text.isprintable()


# ---------------------------------------------------------------- which of the two


def experiment(engine: EngineConfig, model: ModelConfig) -> ExperimentConfig:
    return ExperimentConfig(
        engine=engine, model=model, dataset=DemoDataset(), spec=NoSpec(), load=ClosedLoad(), sampling=SamplingConfig()
    )


def test_the_synthetic_engine_needs_no_tokenizer() -> None:
    config = experiment(SyntheticEngine(vocab_size=10), ModelConfig(name="m", path="/nowhere"))
    prompter = prompting.create(config)
    assert isinstance(prompter, BytePrompter)
    assert max(prompter.encode(None, ["hello"], [])) < 10


def test_the_tokenizer_is_the_models_unless_another_is_named(checkpoint: NewCheckpoint) -> None:
    path = str(checkpoint())
    for model in (ModelConfig(name="m", path=path), ModelConfig(name="m", path="/nowhere", tokenizer=path)):
        prompter = prompting.create(experiment(TransformersEngine(), model))
        assert prompter.encode(None, ["hello"], []) == ids("<s> <user> hello <end> <bot>")
