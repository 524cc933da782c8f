"""An EAGLE-1 head: one decoder layer that predicts the target's next normed hidden state.

Source: Li et al., "EAGLE: Speculative Sampling Requires Rethinking Feature Uncertainty" (2401.15077). Tensor names and
the order of operations are those of vLLM's `llama_eagle.py`: embedding first, no input norm, no norm before lm_head.
"""

import json
from pathlib import Path

import torch
from blocks import DECAY, LLAMA_LIKE, write
from eagle3 import EPSILON, MLP, WIDTH, Attention
from llama import soft_cross_entropy
from observing import observe
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (torch's own idiom)
from transformers import LlamaForCausalLM

ROLLOUT = 4
"""Draft positions that training unrolls."""
Past = list[tuple[Tensor, Tensor]]


class Layer(nn.Module):
    """A Llama decoder layer without its input norm."""

    def __init__(self) -> None:
        super().__init__()
        self.post_attention_layernorm = nn.RMSNorm(WIDTH, eps=EPSILON)
        self.self_attn, self.mlp = Attention(WIDTH), MLP()

    def forward(self, x: Tensor, past: Past) -> Tensor:
        """Returns the same shape as x, (batch, rows, WIDTH)."""
        x = x + self.self_attn(x, past)
        return x + self.mlp(self.post_attention_layernorm(x))


class Drafter(nn.Module):
    """The head. Embedding and lm_head are the target's."""

    def __init__(self, target: LlamaForCausalLM) -> None:
        super().__init__()
        self.fc = nn.Linear(2 * WIDTH, WIDTH, bias=False)
        self.layers = nn.ModuleList([Layer()])

    def step(self, embeds: Tensor, hidden: Tensor, past: Past) -> Tensor:
        """Returns the predicted state, (batch, rows, WIDTH), of embeddings i + 1 and states i."""
        return self.layers[0](self.fc(torch.cat([embeds, hidden], -1)), past)

    def loss(self, target: LlamaForCausalLM, ids: Tensor) -> Tensor:
        """Returns the weighted loss over ROLLOUT draft positions: SmoothL1 of the state, and 0.1 cross-entropy."""
        seen = observe(target, ids)
        wanted, hidden = seen.logits.softmax(-1), seen.normed
        past: Past = []
        total, weight = torch.zeros((), device=ids.device), 1.0
        for step in range(ROLLOUT):
            rows = ids.shape[1] - 1 - step
            hidden = self.step(seen.embeds[:, 1 + step :], hidden[:, :rows], past)
            regression = F.smooth_l1_loss(hidden.float(), seen.normed[:, 1 + step :].float())
            classification = soft_cross_entropy(target.lm_head(hidden), wanted[:, 1 + step :])
            total = total + weight * (regression + 0.1 * classification)
            weight *= DECAY
        return total

    @torch.no_grad()
    def propose(self, target: LlamaForCausalLM, tokens: Tensor, draft_length: int) -> list[int]:
        """Returns the greedy drafts after tokens (1, n), whose last is the bonus token."""
        embed = target.get_input_embeddings()
        past: Past = []
        hidden = self.step(embed(tokens[:, 1:]), observe(target, tokens[:, :-1]).normed, past)
        drafts = [int(target.lm_head(hidden[:, -1]).argmax())]
        while len(drafts) < draft_length:
            # Only the last row goes on; the other rows' keys of later steps are not seen by it.
            fed = embed(torch.full_like(tokens[:, 1:], drafts[-1]))
            hidden = self.step(fed, hidden, past)
            drafts.append(int(target.lm_head(hidden[:, -1]).argmax()))
        return drafts

    def save(self, folder: Path) -> None:
        """Writes config.json for vLLM and config.sglang.json, which differs in `architectures` alone.

        The zero `fc.bias` is for SGLang, whose `fc` has one; vLLM drops it.
        """
        shape = LLAMA_LIKE | {"num_hidden_layers": 1, "tie_word_embeddings": False, "model_type": "llama"}
        write(
            folder,
            dict(self.state_dict()) | {"fc.bias": torch.zeros(WIDTH)},
            {"architectures": ["LlamaForCausalLM"]} | shape,
        )
        config = {"architectures": ["LlamaForCausalLMEagle"]} | shape
        (folder / "config.sglang.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
