"""A Llama of SmolLM2's tokenizer-free shape, small enough to train within a test."""

import pytest
import torch
from eagle3 import Shape
from smollm2.conversations import Template
from smollm2.network import Llama

END = 2
OPENING = [1, 5, 6]
HEADERS = torch.tensor([[3, 5, -1], [3, 7, 8]])
"""After a turn's end: a user's header of two tokens, an assistant's of three."""


@pytest.fixture(scope="module")
def target() -> Llama:
    torch.manual_seed(0)
    model = Llama(Shape(width=32, heads=4, kv_heads=2, head_dim=8, intermediate=48), num_layers=6, vocab_size=40)
    model.embed_tokens.weight.data *= 0.2  # so that a sampled token is seldom the most probable one
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def template() -> Template:
    return Template(opening=OPENING, headers=HEADERS, end=END)
