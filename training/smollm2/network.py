"""A Llama whose parameters have their published names: the target, and the pruned draft.

It is written out so that a batch of equally long rows can be generated without padding, and so that its hidden states
and its shape come from the checkpoint alone, whichever release of transformers is installed.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from eagle3 import MLP, Shape, rotary, split_heads, turn
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (torch's own idiom)

Angles = tuple[Tensor, Tensor]
"""Cosines and sines, each (positions, head_dim)."""


class Past(NamedTuple):
    """The keys and values of one layer, up to the position that is computed."""

    keys: Tensor
    """(rows, kv_heads, length, head_dim), written in place."""
    values: Tensor
    position: int


class SelfAttention(nn.Module):
    """Causal attention with grouped queries."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        width, queries, keys = shape.width, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        self.q_proj = nn.Linear(width, queries, bias=False)
        self.k_proj, self.v_proj = (nn.Linear(width, keys, bias=False) for _ in range(2))
        self.o_proj = nn.Linear(queries, width, bias=False)

    def forward(self, x: Tensor, angles: Angles, past: Past | None) -> Tensor:
        """Returns the same shape; with a past, x is (rows, 1, width)."""
        q, k, v = (split_heads(f(x), self.shape.head_dim) for f in (self.q_proj, self.k_proj, self.v_proj))
        q, k = turn(q, *angles), turn(k, *angles)
        groups = self.shape.heads // self.shape.kv_heads
        if past is None:
            k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
            mixed = F.scaled_dot_product_attention(q, k, v.to(q.dtype), is_causal=True)
        else:
            past.keys[:, :, past.position] = k[:, :, 0]
            past.values[:, :, past.position] = v[:, :, 0]
            seen = slice(0, past.position + 1)
            # The queries that share a key stand where positions usually stand, so that keys are read once.
            grouped = q.view(q.shape[0], self.shape.kv_heads, groups, self.shape.head_dim)
            mixed = F.scaled_dot_product_attention(grouped, past.keys[:, :, seen], past.values[:, :, seen])
            mixed = mixed.reshape(q.shape)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """One decoder layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = (
            nn.RMSNorm(shape.width, eps=shape.epsilon) for _ in range(2)
        )
        self.self_attn, self.mlp = SelfAttention(shape), MLP(shape)

    def forward(self, x: Tensor, angles: Angles, past: Past | None) -> Tensor:
        """Returns the same shape."""
        x = x + self.self_attn(self.input_layernorm(x), angles, past)
        return x + self.mlp(self.post_attention_layernorm(x))


class States(NamedTuple):
    """What the layers computed of ids (rows, T); each is (rows, T, width)."""

    inputs: list[Tensor]
    """Of each layer."""
    normed: Tensor
    """The last layer's output after the final norm, which `Llama.logits` takes."""


class Llama(nn.Module):
    """The decoder, with tied embeddings."""

    def __init__(self, shape: Shape, num_layers: int, vocab_size: int) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(vocab_size, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(num_layers))
        self.norm = nn.RMSNorm(shape.width, eps=shape.epsilon)

    def forward(self, ids: Tensor, caches: Tensor | None = None, position: int = 0) -> States:
        """Returns the states of ids (rows, T), the first of which stands at `position`.

        Args:
            ids: token ids; with caches, of one position: (rows, 1).
            caches: (layers, 2, rows, kv_heads, length, head_dim): keys and values of all positions before.
            position: of the first id.
        """
        x, inputs = self.embed_tokens(ids), []
        positions = torch.arange(position, position + ids.shape[1], device=ids.device)
        angles = rotary(positions, self.shape.head_dim, self.shape.rope_theta, x.dtype)
        for number, layer in enumerate(self.layers):
            inputs.append(x)
            x = layer(x, angles, None if caches is None else Past(*caches[number], position))
        return States(inputs, self.norm(x))

    def logits(self, normed: Tensor) -> Tensor:
        """Returns (..., vocab_size) of normed states (..., width)."""
        return F.linear(normed, self.embed_tokens.weight)


def read_config(folder: Path) -> dict[str, Any]:
    """Returns config.json. Raises ValueError where the checkpoint is not a Llama with tied embeddings."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config.get("model_type") != "llama" or not config.get("tie_word_embeddings"):
        raise ValueError(f"{folder}: not a Llama with tied embeddings: model_type={config.get('model_type')}")
    return config


def shape_of(config: dict[str, Any]) -> Shape:
    """Returns the layers' shape."""
    rope = config.get("rope_parameters") or {"rope_theta": config["rope_theta"]}
    return Shape(
        width=config["hidden_size"],
        heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        head_dim=config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"],
        intermediate=config["intermediate_size"],
        epsilon=config["rms_norm_eps"],
        rope_theta=rope["rope_theta"],
    )


def load_target(folder: Path, device: torch.device) -> Llama:
    """Returns the checkpoint without gradients, in bfloat16; on a CPU, whose bfloat16 may be slow, in float32."""
    config = read_config(folder)
    model = Llama(shape_of(config), config["num_hidden_layers"], config["vocab_size"])
    tensors = load_file(folder / "model.safetensors")
    model.load_state_dict({name.removeprefix("model."): one for name, one in tensors.items() if "lm_head" not in name})
    return model.to(device, torch.bfloat16 if device.type == "cuda" else torch.float32).eval().requires_grad_(False)
