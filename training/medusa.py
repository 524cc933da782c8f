"""Medusa heads: residual blocks over the target's last normed state, one head for each draft position.

Source: Cai et al., "Medusa: Simple LLM Inference Acceleration Framework with Multiple Decoding Heads" (2401.10774).
Tensor names are those of vLLM's `medusa.py` with `original_lm_head`: one output projection for all, which starts as the
target's.
"""

from pathlib import Path

import torch
from blocks import DECAY, write
from eagle3 import WIDTH
from llama import soft_cross_entropy
from observing import observe
from tokenizer import VOCAB_SIZE
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (torch's own idiom)
from transformers import LlamaForCausalLM

NUM_HEADS = 4


class Block(nn.Module):
    """One residual layer: x + silu(W x). W starts at 0, so that the head starts as the target's own projection."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(WIDTH, WIDTH, bias=False)])
        nn.init.zeros_(self.layers[0].weight)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the same shape."""
        return x + F.silu(self.layers[0](x))


class Drafter(nn.Module):
    """The heads and one output projection, which starts as a copy of the target's."""

    def __init__(self, target: LlamaForCausalLM) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block() for _ in range(NUM_HEADS)])
        self.lm_head = nn.Linear(WIDTH, VOCAB_SIZE, bias=False)
        self.lm_head.weight.data.copy_(target.lm_head.weight.data)

    def loss(self, target: LlamaForCausalLM, ids: Tensor) -> Tensor:
        """Returns the cross-entropy of head k at token i against the target's distribution of token i + 2 + k."""
        seen = observe(target, ids)
        wanted = seen.logits.softmax(-1)
        total = torch.zeros((), device=ids.device)
        for k, block in enumerate(self.blocks):
            logits = self.lm_head(block(seen.normed[:, : -1 - k]))
            total = total + DECAY**k * soft_cross_entropy(logits, wanted[:, 1 + k :])
        return total

    @torch.no_grad()
    def propose(self, target: LlamaForCausalLM, tokens: Tensor, draft_length: int) -> list[int]:
        """Returns the heads' greedy drafts after tokens (1, n), whose last is the bonus token."""
        hidden = observe(target, tokens[:, :-1]).normed[:, -1]
        return [int(self.lm_head(block(hidden)).argmax()) for block in self.blocks[:draft_length]]

    def save(self, folder: Path) -> None:
        """Writes vLLM's layout."""
        config = {
            "architectures": ["MedusaModel"],
            "model_type": "medusa",
            "hidden_size": WIDTH,
            "vocab_size": VOCAB_SIZE,
            "num_heads": NUM_HEADS,
            "num_hidden_layers": 1,
            "medusa_fc_bias": False,
            "original_lm_head": True,
            "torch_dtype": "bfloat16",
        }
        write(folder, dict(self.state_dict()), config)
