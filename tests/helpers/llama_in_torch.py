"""The bundled target, and the layers that its drafters share with it, in plain torch; see drafters_in_torch.py."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import silu

from specdec_bench.config.checkpoints import ASSETS

TINY = Path(ASSETS) / "tiny"
Past = list[tuple[Tensor, Tensor]]
"""Each layer's keys and values, (heads, rows, head width)."""


@dataclass(frozen=True)
class Checkpoint:
    """A folder's config.json and its tensors below a prefix of their names."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]

    def below(self, prefix: str) -> "Checkpoint":
        """Returns the tensors whose names begin so, by the rest of their names."""
        rest = {name.removeprefix(prefix): x for name, x in self.tensors.items() if name.startswith(prefix)}
        return Checkpoint(self.config, rest)

    def linear(self, name: str, x: Tensor) -> Tensor:
        """Returns x W^T, and the bias where the file has one."""
        y = x @ self.tensors[f"{name}.weight"].T
        return y + self.tensors[f"{name}.bias"] if f"{name}.bias" in self.tensors else y

    def norm(self, name: str, x: Tensor) -> Tensor:
        """Returns x, normed, times the weight."""
        return rms_norm(x, self.config["rms_norm_eps"]) * self.tensors[f"{name}.weight"]


def read_checkpoint(name: str, dtype: torch.dtype = torch.float64) -> Checkpoint:
    """Returns the bundled folder of that name."""
    config = json.loads((TINY / name / "config.json").read_text(encoding="utf-8"))
    tensors = {key: x.to(dtype) for key, x in load_file(TINY / name / "model.safetensors").items()}
    assert config.get("num_key_value_heads") == config.get("num_attention_heads")
    return Checkpoint(config, tensors)


class Layer:
    """A decoder layer's attention and feed-forward block."""

    def __init__(self, weights: Checkpoint) -> None:
        self.weights = weights
        self.norm = weights.norm
        self._attention = weights.below("self_attn.")
        self._mlp = weights.below("mlp.")

    @property
    def key_norm(self) -> Tensor | None:
        """Returns the weight of the keys' norm, where the file has one."""
        return self._attention.tensors.get("k_norm.weight")

    def keys_and_values(self, x: Tensor, first_position: int, key_norm: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns those of rows at `first_position` and on. `key_norm` replaces the file's weight."""
        k = self._rotated(self._heads("k", x), self.key_norm if key_norm is None else key_norm, first_position)
        return k, self._heads("v", x)

    def attend(self, x: Tensor, past: tuple[Tensor, Tensor] | None, is_causal: bool = True) -> tuple[Tensor, Any]:
        """Returns the mixed values of rows that follow `past`, and the keys and values of both."""
        before = 0 if past is None else past[0].shape[1]
        q = self._rotated(self._heads("q", x), self._attention.tensors.get("q_norm.weight"), before)
        k, v = self.keys_and_values(x, before)
        if past is not None:
            k, v = torch.cat([past[0], k], 1), torch.cat([past[1], v], 1)
        scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
        if is_causal:
            is_later = torch.arange(k.shape[1]) > before + torch.arange(len(x))[:, None]
            scores = scores.masked_fill(is_later, -torch.inf)
        mixed = (scores.softmax(-1) @ v).transpose(0, 1).flatten(1)
        return self._attention.linear("o_proj", mixed), (k, v)

    def feed_forward(self, x: Tensor) -> Tensor:
        """Returns down(silu(gate(x)) * up(x)) of the normed x."""
        x = self.norm("post_attention_layernorm", x)
        gated = silu(self._mlp.linear("gate_proj", x)) * self._mlp.linear("up_proj", x)
        return self._mlp.linear("down_proj", gated)

    def _heads(self, kind: str, x: Tensor) -> Tensor:
        """Returns the projected queries (q), keys (k) or values (v)."""
        projected = self._attention.linear(f"{kind}_proj", x)
        return projected.unflatten(-1, (-1, self.weights.config["head_dim"])).transpose(0, 1)

    def _rotated(self, x: Tensor, norm_weight: Tensor | None, first_position: int) -> Tensor:
        """Returns queries or keys as attention compares them."""
        config = self.weights.config
        if norm_weight is not None:
            x = rms_norm(x, config["rms_norm_eps"]) * norm_weight
        return rotate(x, first_position, config.get("rope_parameters", config)["rope_theta"])


def rms_norm(x: Tensor, epsilon: float) -> Tensor:
    """Returns x / sqrt(mean(x^2) + epsilon)."""
    return x / (x.square().mean(-1, keepdim=True) + epsilon).sqrt()


def rotate(x: Tensor, first_position: int, theta: float) -> Tensor:
    """Turns the pair (x[i], x[i + d/2]) of each head by position * theta ** (-2 i / d)."""
    rows, d = x.shape[-2:]
    positions = first_position + torch.arange(rows, dtype=x.dtype)
    angles = positions[:, None] * theta ** (-2 * torch.arange(d // 2, dtype=x.dtype) / d)
    left, right = x[..., : d // 2], x[..., d // 2 :]
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([left * cos - right * sin, right * cos + left * sin], -1)


def first(past: Past, rows: int) -> Past:
    """Returns the keys and values of the first rows."""
    return [(k[:, :rows], v[:, :rows]) for k, v in past]


@dataclass(frozen=True, kw_only=True)
class States:
    """What a drafter sees of the target. Row i belongs to token i."""

    outputs: list[Tensor]
    """Of each layer, before any final norm."""
    normed: Tensor
    """The last layer's, after the final norm."""


class Llama:
    """A Llama whose output projection is its embedding: the target, the draft model and PARD."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._model = checkpoint.below("model.")
        self._embedding = self._model.tensors["embed_tokens.weight"]
        numbers = range(checkpoint.config["num_hidden_layers"])
        self._layers = [Layer(self._model.below(f"layers.{number}.")) for number in numbers]

    def embed(self, tokens: Tensor) -> Tensor:
        return self._embedding[tokens]

    def logits(self, normed: Tensor) -> Tensor:
        return normed @ self._embedding.T

    def run(self, tokens: Tensor, past: Past | None = None) -> tuple[States, Past]:
        """Returns the states of tokens that follow `past`, and the keys and values of both."""
        x, outputs, seen = self.embed(tokens), [], []
        for number, layer in enumerate(self._layers):
            mixed, both = layer.attend(layer.norm("input_layernorm", x), past[number] if past else None)
            x = x + mixed
            x = x + layer.feed_forward(x)
            outputs.append(x)
            seen.append(both)
        return States(outputs=outputs, normed=self._model.norm("norm", x)), seen
