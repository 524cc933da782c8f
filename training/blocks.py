"""What the drafters' one-pass layers share: attention under a mask, chains of masks, and the files they write."""

import json
from pathlib import Path

import torch
from eagle3 import EPSILON, HEAD_DIM, HEADS, INTERMEDIATE, ROPE_THETA, WIDTH
from llama import MAX_SEQ_LEN
from safetensors.torch import save_file
from tokenizer import BOS, END, PAD, VOCAB_SIZE
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (torch's own idiom)

DECAY = 0.8
"""Weight of a draft position's loss over that of the one before it."""
LLAMA_LIKE = {
    "hidden_size": WIDTH,
    "intermediate_size": INTERMEDIATE,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
    "head_dim": HEAD_DIM,
    "hidden_act": "silu",
    "rms_norm_eps": EPSILON,
    "rope_theta": ROPE_THETA,
    "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_THETA},
    "vocab_size": VOCAB_SIZE,
    "max_position_embeddings": MAX_SEQ_LEN,
    "attention_bias": False,
    "mlp_bias": False,
    "bos_token_id": BOS,
    "eos_token_id": END,
    "pad_token_id": PAD,
    "torch_dtype": "bfloat16",
}
"""The keys of a config.json whose layers have the target's shape."""


def attend(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
    """Returns (batch, rows, HEADS * HEAD_DIM). `visible` is bool, (rows, keys): what each row sees."""
    v = v.to(q.dtype)
    return F.scaled_dot_product_attention(q, k.to(q.dtype), v, attn_mask=visible).transpose(1, 2).flatten(2)


def mask_chains(length: int, anchors: Tensor, depth: int) -> tuple[Tensor, Tensor]:
    """Returns the positions and the mask of `length` real rows and, for each anchor row, a chain of `depth` masks.

    Rows: the real ones, then anchor 0's chain, anchor 1's, and so on. Real rows are causal. A chain's row sees the
    real rows up to its anchor, and its own chain up to itself. It stands 1 to `depth` places after its anchor.

    Returns:
        positions (rows,) and visible (rows, rows), with rows = length + len(anchors) * depth.
    """
    device = anchors.device
    steps = torch.arange(1, depth + 1, device=device)
    real = torch.arange(length, device=device)
    owner = torch.cat([torch.full_like(real, -1), torch.arange(len(anchors), device=device).repeat_interleave(depth)])
    last_seen = torch.cat([real, anchors.repeat_interleave(depth)])
    positions = torch.cat([real, (anchors[:, None] + steps).flatten()])
    is_real = owner < 0
    sees_real = is_real[None, :] & (positions[None, :] <= last_seen[:, None])
    own_chain = ~is_real[None, :] & (owner[None, :] == owner[:, None]) & (positions[None, :] <= positions[:, None])
    return positions, sees_real | own_chain


def draw_anchors(length: int, depth: int, number: int, device: torch.device) -> Tensor:
    """Returns up to `number` different rows, in order, from 0 to length - depth - 1: each chain ends in the row."""
    choice = torch.randperm(length - depth, device=device)[:number]
    return choice.sort().values


def weighted_cross_entropy(logits: Tensor, wanted: Tensor) -> Tensor:
    """Returns the cross-entropy of logits (batch, anchors, depth, V), weighted DECAY ** depth, against `wanted`."""
    depth = logits.shape[2]
    loss = -(wanted * logits.float().log_softmax(-1)).sum(-1).mean((0, 1))
    weights = DECAY ** torch.arange(depth, device=loss.device)
    return (loss * weights).sum() / weights.sum()


def write(folder: Path, tensors: dict[str, Tensor], config: dict[str, object]) -> None:
    """Writes model.safetensors, whose real numbers are rounded to bfloat16, and config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    rounded = {
        name: tensor.detach().to("cpu", torch.bfloat16 if tensor.is_floating_point() else tensor.dtype).contiguous()
        for name, tensor in tensors.items()
    }
    save_file(rounded, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load_rounded(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Loads the tensors as the module's parameters of those names. Raises RuntimeError where a name is unknown."""
    unknown = module.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, strict=False)
    if unknown.unexpected_keys or unknown.missing_keys:
        raise RuntimeError(f"missing {unknown.missing_keys}, unexpected {unknown.unexpected_keys}")
