"""What the next turn shows of a reply."""

import pytest

from specdec_bench.checkpoints.replies import harmony_final, without_thinking
from tests.helpers.word_tokenizer import chat

TINY = "bundled:tiny/target"
HARMONY = "<|channel|>analysis<|message|>Let me think.<|end|><|start|>assistant<|channel|>final<|message|>Four.\nYes."


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (HARMONY + "<|return|>", "Four.\nYes."),
        (HARMONY + "<|end|>", "Four.\nYes."),
        (HARMONY, "Four.\nYes."),  # cut off at the limit
        ("<|channel|>final<|message|>One.<|end|><|start|>assistant<|channel|>final<|message|>Two.", "Two."),
        ("<|channel|>final <|constrain|>json<|message|>{}<|return|>", "{}"),
        ("<|channel|>analysis<|message|>Let me", ""),
        ("<|channel|>analysis<|message|>It says final.<|end|>", ""),
        ("", ""),
    ],
)
def test_harmony_s_final_channel(raw: str, expected: str) -> None:
    assert harmony_final(raw) == expected


@pytest.mark.parametrize(
    ("raw", "opened", "expected"),
    [
        ("<think>Hm.</think>\n\nFour.", False, "\n\nFour."),
        ("Hm.</think>Four.", True, "Four."),
        ("<think>Hm", False, ""),
        ("Well <think>Hm", False, "Well "),
        ("Hm", True, ""),
        ("Four.", False, "Four."),
        ("<think>a</think>b<think>c</think>d", False, "d"),
    ],
)
def test_what_was_thought_is_left_out(raw: str, opened: bool, expected: str) -> None:
    assert without_thinking(raw, opened) == expected


@pytest.mark.parametrize(
    ("reply_format", "expected"), [("text", "<think>so</think> Four."), ("think", "Four."), ("harmony", "")]
)
def test_the_next_turn_shows_what_the_model_s_file_says(reply_format: str, expected: str) -> None:
    prompter = chat(TINY, reply_format=reply_format)
    reply = prompter._tokenizer("<think>so</think> Four.<|end|>")["input_ids"]
    assert prompter.reply(reply) == expected
    assert prompter.decode(reply) == "<think>so</think> Four.", "the archive keeps all of it"


def test_a_template_that_opens_the_thinking_is_noticed() -> None:
    template = "{{ messages[0]['content'] }}<|assistant|><think>\n"
    prompter = chat(TINY, reply_format="think", chat_template=template)
    assert prompter.reply(prompter._tokenizer("still at it")["input_ids"]) == ""
    assert chat(TINY, reply_format="think").reply(prompter._tokenizer("still at it")["input_ids"]) == "still at it"
