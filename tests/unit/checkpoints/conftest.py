"""A checkpoint with a tokenizer of seventeen words."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tests.helpers.word_tokenizer import IDS, SPECIAL, TEMPLATE, NewCheckpoint


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
