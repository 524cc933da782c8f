"""An EAGLE-3 head for the target: one decoder layer over three of its hidden states.

Source: Li et al., "EAGLE-3: Scaling up Inference Acceleration of LLMs via Training-Time Test" (2503.01840). Tensor
names and the order of operations are those that vLLM's and SGLang's `llama_eagle3.py` load and run.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from llama import MAX_SEQ_LEN, soft_cross_entropy
from safetensors.torch import save_file
from tokenizer import BOS, END, PAD, VOCAB_SIZE
from torch import Tensor, nn
from transformers import LlamaForCausalLM

WIDTH, HEADS, HEAD_DIM, INTERMEDIATE = 256, 4, 64, 688
EPSILON, ROPE_THETA = 1e-6, 10_000.0
AUX_LAYERS = (1, 2, 3)
"""The target's hidden states that are fused: the inputs of these layers, `hidden_states[i]` in transformers."""
ROLLOUT = 4
"""Draft positions that training unrolls."""
DECAY = 0.8
"""Weight of a draft position's loss over that of the one before it."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The shape of a Llama's layers; by default the tiny target's."""

    width: int = WIDTH
    heads: int = HEADS
    kv_heads: int = HEADS
    head_dim: int = HEAD_DIM
    intermediate: int = INTERMEDIATE
    epsilon: float = EPSILON
    rope_theta: float = ROPE_THETA


TINY = Shape()


class Attention(nn.Module):
    """Causal attention whose keys grow by one a draft step, along the diagonal."""

    def __init__(self, width: int | None = None, has_bias: bool = False, shape: Shape = TINY) -> None:
        """Takes inputs of `width`, by default twice the shape's."""
        super().__init__()
        width = 2 * shape.width if width is None else width
        self.shape = shape
        self.q_proj = nn.Linear(width, shape.heads * shape.head_dim, bias=has_bias)
        self.k_proj, self.v_proj = (nn.Linear(width, shape.kv_heads * shape.head_dim, bias=has_bias) for _ in range(2))
        self.o_proj = nn.Linear(shape.heads * shape.head_dim, shape.width, bias=False)

    def forward(self, x: Tensor, past: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Returns (batch, rows, width) for draft step len(past) and appends its keys and values to `past`.

        Row r of step j stands at position r + j. It sees step 0 up to row r, and row r of the steps since.
        """
        step, rows = len(past), x.shape[1]
        positions = torch.arange(rows, device=x.device) + step
        head_dim, theta = self.shape.head_dim, self.shape.rope_theta
        q, k, v = (split_heads(projection(x), head_dim) for projection in (self.q_proj, self.k_proj, self.v_proj))
        q, k = rotate(q, positions, theta), rotate(k, positions, theta)
        k, v = (one.repeat_interleave(self.shape.heads // self.shape.kv_heads, 1) for one in (k, v))
        past.append((k, v))
        first_k, first_v = past[0]
        scores = q @ first_k[:, :, :rows].transpose(-1, -2)
        future = torch.ones(rows, rows, dtype=torch.bool, device=x.device).triu(1)
        scores = scores.masked_fill(future, float("-inf"))
        later = [(q * other_k[:, :, :rows]).sum(-1, keepdim=True) for other_k, _ in past[1:]]
        weights = (torch.cat([scores, *later], -1).float() * head_dim**-0.5).softmax(-1).to(v.dtype)
        mixed = weights[..., :rows] @ first_v[:, :, :rows]
        for index, (_, other_v) in enumerate(past[1:]):
            mixed = mixed + weights[..., rows + index, None] * other_v[:, :, :rows]
        return self.o_proj(mixed.transpose(1, 2).flatten(2))


def split_heads(x: Tensor, head_dim: int = HEAD_DIM) -> Tensor:
    """Returns (batch, heads, rows, head_dim) of (batch, rows, heads * head_dim)."""
    return x.unflatten(-1, (-1, head_dim)).transpose(1, 2)


def rotate(x: Tensor, positions: Tensor, theta: float = ROPE_THETA) -> Tensor:
    """Applies rotary position embedding (halves, not pairs) to (batch, heads, rows, head_dim)."""
    return turn(x, *rotary(positions, x.shape[-1], theta, x.dtype))


def rotary(positions: Tensor, head_dim: int, theta: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Returns the cosines and sines of the positions' angles, each (positions, head_dim)."""
    inverse = theta ** (-torch.arange(0, head_dim, 2, device=positions.device) / head_dim)
    angles = positions[:, None].float() * inverse
    cos, sin = (torch.cat([f(angles)] * 2, -1).to(dtype) for f in (torch.cos, torch.sin))
    return cos, sin


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns (batch, heads, rows, head_dim) by the angles of these cosines and sines."""
    left, right = x.chunk(2, -1)
    return x * cos + torch.cat([-right, left], -1) * sin


class MLP(nn.Module):
    """Llama's gated feed-forward block."""

    def __init__(self, shape: Shape = TINY) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(shape.width, shape.intermediate, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(shape.intermediate, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the same shape."""
        return self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """One decoder layer over [token embedding, hidden state]."""

    def __init__(self, shape: Shape = TINY) -> None:
        super().__init__()
        self.input_layernorm, self.hidden_norm, self.post_attention_layernorm = (
            nn.RMSNorm(shape.width, eps=shape.epsilon) for _ in range(3)
        )
        self.self_attn, self.mlp = Attention(shape=shape), MLP(shape)

    def forward(self, embeds: Tensor, hidden: Tensor, past: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Returns the next hidden state, not yet normalized: what the next draft step takes."""
        x = torch.cat([self.input_layernorm(embeds), self.hidden_norm(hidden)], -1)
        hidden = hidden + self.self_attn(x, past)
        return hidden + self.mlp(self.post_attention_layernorm(hidden))


class Eagle3(nn.Module):
    """The head. It shares the target's token embedding and has its own output projection."""

    def __init__(self, shape: Shape = TINY, vocab_size: int = VOCAB_SIZE) -> None:
        super().__init__()
        self.fc = nn.Linear(len(AUX_LAYERS) * shape.width, shape.width, bias=False)
        self.midlayer = Layer(shape)
        self.norm = nn.RMSNorm(shape.width, eps=shape.epsilon)
        self.lm_head = nn.Linear(shape.width, vocab_size, bias=False)


def unrolled_loss(head: Eagle3, target: LlamaForCausalLM, ids: Tensor) -> Tensor:
    """Returns the weighted loss over ROLLOUT draft positions (training-time test), for ids (batch, T).

    Row r starts from the target's state after token r; draft step j reads token r + 1 + j and is trained
    towards the target's distribution of token r + 2 + j.
    """
    with torch.no_grad():
        out = target(input_ids=ids, use_cache=False, output_hidden_states=True)
        wanted = out.logits.float().softmax(-1)
        aux = torch.cat([out.hidden_states[i] for i in AUX_LAYERS], -1)
        embeds = target.get_input_embeddings()(ids)
    length = ids.shape[1]
    hidden = head.fc(aux)
    past: list[tuple[Tensor, Tensor]] = []
    total, weight = 0.0, 1.0
    for step in range(ROLLOUT):
        rows = length - 1 - step
        hidden = head.midlayer(embeds[:, 1 + step :], hidden[:, :rows], past)
        logits = head.lm_head(head.norm(hidden))
        total = total + weight * soft_cross_entropy(logits, wanted[:, 1 + step :])
        weight *= DECAY
    return total


@torch.no_grad()
def acceptance_length(
    head: Eagle3, target: LlamaForCausalLM, prompt: list[int], draft_length: int, limit: int
) -> float:
    """Returns (tokens - prefill token) / decode steps of greedy drafting and verifying, recomputed without caches."""
    tokens, steps, produced = list(prompt), 0, 0

    def greedy(ids: list[int]) -> Tensor:
        return target(input_ids=torch.tensor([ids], device=target.device), use_cache=False).logits[0].argmax(-1)

    tokens.append(int(greedy(tokens)[-1]))
    while produced < limit and tokens[-1] != END:
        ids = torch.tensor([tokens], device=target.device)
        out = target(input_ids=ids[:, :-1], use_cache=False, output_hidden_states=True)
        hidden = head.fc(torch.cat([out.hidden_states[i] for i in AUX_LAYERS], -1))
        embed, past = target.get_input_embeddings(), []  # type: ignore[var-annotated]
        hidden = head.midlayer(embed(ids[:, 1:]), hidden, past)
        # From here on only the last row goes on: the others' keys stay as step 0's.
        drafts = [int(head.lm_head(head.norm(hidden[:, -1])).argmax())]
        while len(drafts) < draft_length:
            nxt = embed(torch.tensor([[drafts[-1]] * hidden.shape[1]], device=target.device))
            hidden = head.midlayer(nxt, hidden, past)
            drafts.append(int(head.lm_head(head.norm(hidden[:, -1])).argmax()))
        wanted = greedy(tokens + drafts)[len(tokens) - 1 :].tolist()
        accepted = 0
        while accepted < draft_length and drafts[accepted] == wanted[accepted]:
            accepted += 1
        new = wanted[: accepted + 1]
        new = new[: new.index(END) + 1] if END in new else new
        tokens += new
        produced += len(new)
        steps += 1
    return produced / steps if steps else float("nan")


def save(head: Eagle3, folder: Path) -> None:
    """Writes the head in the layout that vLLM and SGLang read."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.to("cpu", torch.bfloat16).contiguous() for name, tensor in head.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["LlamaForCausalLMEagle3"],
        "model_type": "llama",
        "hidden_size": WIDTH,
        "target_hidden_size": WIDTH,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": 1,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "head_dim": HEAD_DIM,
        "hidden_act": "silu",
        "rms_norm_eps": EPSILON,
        "rope_theta": ROPE_THETA,
        "vocab_size": VOCAB_SIZE,
        "draft_vocab_size": VOCAB_SIZE,
        "max_position_embeddings": MAX_SEQ_LEN,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": BOS,
        "eos_token_id": END,
        "pad_token_id": PAD,
        "torch_dtype": "bfloat16",
        # vLLM counts a layer's input by its own number, SGLang by that of the layer before it.
        "eagle_aux_hidden_state_layer_ids": list(AUX_LAYERS),
        "eagle_config": {
            "use_aux_hidden_state": True,
            "eagle_aux_hidden_state_layer_ids": [layer - 1 for layer in AUX_LAYERS],
        },
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
