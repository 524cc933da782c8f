"""DSpark: DFlash's one pass over a block, and a small head that lets each draft depend on the one before it.

Source: DeepSeek, "DSpark" (2607.05147). Tensor names and the order of operations are those of vLLM's `qwen3_dspark.py`
and `v1/worker/gpu/spec_decode/dspark/speculator.py`, and of SGLang's `models/dspark.py`. A block of K holds the bonus
token and K - 1 masks. Unlike DFlash's, each of its rows writes the token after its own.
"""

from typing import Any

import torch
from blocks import weighted_cross_entropy
from dflash import MASK, NUM_ANCHORS
from dflash import Drafter as BlockDrafter
from eagle3 import Shape
from observing import observe
from tokenizer import VOCAB_SIZE
from torch import Tensor, nn
from transformers import LlamaForCausalLM

BLOCK_SIZE, SMALLEST_BLOCK = 5, 3
"""Training draws the size of the blocks from these two on, so that fewer drafts may be asked for."""
RANK = 16
TARGET_LAYERS = (2,)


class Markov(nn.Module):
    """What follows each token, as logits of a low rank."""

    def __init__(self) -> None:
        super().__init__()
        self.markov_w1 = nn.Embedding(VOCAB_SIZE, RANK)
        self.markov_w2 = nn.Linear(RANK, VOCAB_SIZE, bias=False)

    def forward(self, before: Tensor) -> Tensor:
        """Returns (..., V) for the ids (...) of the tokens before."""
        return self.markov_w2(self.markov_w1(before))


class Drafter(BlockDrafter):
    """One small layer and the Markov head. Embedding and lm_head are the target's."""

    shape, num_layers, target_layers = Shape(heads=2, kv_heads=2, intermediate=160), 1, TARGET_LAYERS

    def __init__(self, target: LlamaForCausalLM) -> None:
        super().__init__(target)
        self.markov_head = Markov()

    def loss(self, target: LlamaForCausalLM, ids: Tensor) -> Tensor:
        """Returns the cross-entropy of random blocks against the target's distributions, given the true tokens."""
        seen = observe(target, ids)
        size = int(torch.randint(SMALLEST_BLOCK, BLOCK_SIZE + 1, ()))
        choice = torch.randperm(ids.shape[1] - size, device=ids.device)[:NUM_ANCHORS]
        anchors = 1 + choice.sort().values
        states = self._states(target, seen, ids[:, anchors], anchors, size)
        places = anchors[:, None] + torch.arange(size, device=ids.device)
        logits = target.lm_head(states) + self.markov_head(ids[:, places])
        return weighted_cross_entropy(logits, seen.logits.softmax(-1)[:, places])

    @torch.no_grad()
    def propose(self, target: LlamaForCausalLM, tokens: Tensor, draft_length: int) -> list[int]:
        """Returns the drafts of one block after tokens (1, n), whose last is the bonus token, from left to right."""
        seen = observe(target, tokens[:, :-1])
        anchors = torch.tensor([tokens.shape[1] - 1], device=tokens.device)
        logits = target.lm_head(self._states(target, seen, tokens[:, -1:], anchors, draft_length)[0, 0])
        drafts, before = [], tokens[0, -1]
        for row in logits:
            before = (row + self.markov_head(before)).argmax(-1)
            drafts.append(int(before))
        return drafts

    def config(self) -> dict[str, Any]:
        """Returns config.json as vLLM and SGLang read it."""
        return super().config() | {
            "architectures": ["Qwen3DSparkModel"],
            "num_attention_heads": self.shape.heads,
            "num_key_value_heads": self.shape.kv_heads,
            "intermediate_size": self.shape.intermediate,
            "block_size": BLOCK_SIZE,
            "mask_token_id": MASK,
            "target_layer_ids": list(self.target_layers),
            "markov_rank": RANK,
            "markov_head_type": "vanilla",
            "enable_confidence_head": False,
        }
