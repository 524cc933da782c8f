"""DFlash: layers that fill a block of masks in one pass, over the target's states as keys and values.

Source: Chen et al., "DFlash: Block Diffusion for Flash Speculative Decoding" (2602.06036). Tensor names and the order
of operations are those of vLLM's `qwen3_dflash.py`.
"""

from pathlib import Path
from typing import Any

import torch
from blocks import LLAMA_LIKE, attend, weighted_cross_entropy, write
from eagle3 import EPSILON, MLP, TINY, Shape, rotate, split_heads
from llama import target_config
from observing import Observed, observe
from tokenizer import PAD
from torch import Tensor, nn
from transformers import LlamaForCausalLM

MASK = PAD
NUM_LAYERS, BLOCK_SIZE, NUM_ANCHORS = 2, 8, 24
TARGET_LAYERS = (0, 1, 2)
"""The target's layers whose outputs are fused."""


class Attention(nn.Module):
    """Attention with normed queries and keys, of queries over the context's keys and their own."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        inner = shape.heads * shape.head_dim
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(shape.width, inner, bias=False) for _ in range(3))
        self.o_proj = nn.Linear(inner, shape.width, bias=False)
        self.q_norm, self.k_norm = (nn.RMSNorm(shape.head_dim, eps=EPSILON) for _ in range(2))

    def forward(self, x: Tensor, context: Tensor, positions: Tensor, visible: Tensor) -> Tensor:
        """Returns x's shape. `positions` holds the queries'; `visible` is (queries, context + queries)."""
        places = torch.cat([torch.arange(context.shape[1], device=x.device), positions])
        keys = torch.cat([context, x.to(context.dtype)], 1)
        q = rotate(self.q_norm(split_heads(self.q_proj(x))), positions)
        k = rotate(self.k_norm(split_heads(self.k_proj(keys))), places)
        return self.o_proj(attend(q, k, split_heads(self.v_proj(keys)), visible))


class Layer(nn.Module):
    """One Qwen3 decoder layer. The context has no input norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = (nn.RMSNorm(shape.width, eps=EPSILON) for _ in range(2))
        self.self_attn, self.mlp = Attention(shape), MLP(shape)

    def forward(self, x: Tensor, context: Tensor, positions: Tensor, visible: Tensor) -> Tensor:
        """Returns x's shape."""
        x = x + self.self_attn(self.input_layernorm(x), context, positions, visible)
        return x + self.mlp(self.post_attention_layernorm(x))


class Drafter(nn.Module):
    """The layers. Embedding and lm_head are the target's."""

    shape, num_layers, target_layers = TINY, NUM_LAYERS, TARGET_LAYERS

    def __init__(self, target: LlamaForCausalLM) -> None:
        super().__init__()
        width = self.shape.width
        self.fc = nn.Linear(len(self.target_layers) * width, width, bias=False)
        self.hidden_norm, self.norm = (nn.RMSNorm(width, eps=EPSILON) for _ in range(2))
        self.layers = nn.ModuleList([Layer(self.shape) for _ in range(self.num_layers)])

    def _states(self, target: LlamaForCausalLM, seen: Observed, bonus: Tensor, anchors: Tensor, size: int) -> Tensor:
        """Returns the normed states (batch, anchors, size, width) of blocks that begin at the anchors.

        `bonus` (batch, anchors) holds the token at each anchor; the other places of a block hold the mask. A block
        sees the context before its anchor, and the whole of itself.
        """
        batch, number = bonus.shape
        length = seen.normed.shape[1]
        ids = torch.full((batch, number, size), MASK, device=bonus.device)
        ids[:, :, 0] = bonus
        x = target.get_input_embeddings()(ids.flatten(1))
        context = self.hidden_norm(self.fc(torch.cat([seen.outputs[layer] for layer in self.target_layers], -1)))
        positions = (anchors[:, None] + torch.arange(size, device=bonus.device)).flatten()
        owner = torch.arange(number, device=bonus.device).repeat_interleave(size)
        before = torch.arange(length, device=bonus.device) < anchors[owner][:, None]
        visible = torch.cat([before, owner[:, None] == owner], 1)
        for layer in self.layers:
            x = layer(x, context, positions, visible)
        return self.norm(x).unflatten(1, (number, size))

    def loss(self, target: LlamaForCausalLM, ids: Tensor) -> Tensor:
        """Returns the cross-entropy of the masks of random blocks against the target's distributions there."""
        seen = observe(target, ids)
        wanted = seen.logits.softmax(-1)
        choice = torch.randperm(ids.shape[1] - BLOCK_SIZE, device=ids.device)[:NUM_ANCHORS]
        anchors = 1 + choice.sort().values
        states = self._states(target, seen, ids[:, anchors], anchors, BLOCK_SIZE)
        places = anchors[:, None] + torch.arange(BLOCK_SIZE - 1, device=ids.device)
        return weighted_cross_entropy(target.lm_head(states[:, :, 1:]), wanted[:, places])

    @torch.no_grad()
    def propose(self, target: LlamaForCausalLM, tokens: Tensor, draft_length: int) -> list[int]:
        """Returns the drafts of one block after tokens (1, n), whose last is the bonus token."""
        seen = observe(target, tokens[:, :-1])
        anchors = torch.tensor([tokens.shape[1] - 1], device=tokens.device)
        states = self._states(target, seen, tokens[:, -1:], anchors, draft_length + 1)
        return target.lm_head(states[0, 0, 1:]).argmax(-1).tolist()

    def config(self) -> dict[str, Any]:
        """Returns config.json as vLLM and SGLang read it."""
        return {
            **{"architectures": ["DFlashDraftModel"], "model_type": "qwen3"},
            **LLAMA_LIKE,
            "num_hidden_layers": self.num_layers,
            "tie_word_embeddings": False,
            "block_size": BLOCK_SIZE,
            "num_target_layers": target_config().num_hidden_layers,  # SGLang takes the drafter's own otherwise
            "dflash_config": {"mask_token_id": MASK, "target_layer_ids": list(self.target_layers)},
        }

    def save(self, folder: Path) -> None:
        """Writes vLLM's and SGLang's layout."""
        write(folder, dict(self.state_dict()), self.config())
