"""A multi-token-prediction layer of MiMo's shape for the target, which is then a MiMo without biases of its own.

Source: Xiaomi, "MiMo: Unlocking the Reasoning Potential of Language Model" (2505.07608). Tensor names and the order of
operations are those of vLLM's `mimo_mtp.py`: hidden state first, which the target gives before its final norm.

`python training/mtp.py FOLDER` writes the bundled target with the bundled layer, which `spec=mtp` needs as its model.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from blocks import DECAY, LLAMA_LIKE, write
from eagle3 import EPSILON, MLP, WIDTH, Attention
from llama import soft_cross_entropy
from observing import observe
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import LlamaForCausalLM

BUNDLED = Path(__file__).parents[1] / "specdec_bench" / "assets" / "tiny"
ROLLOUT = 4
"""Draft positions that training unrolls: the one layer runs again for each."""
PREFIX = "model.mtp_layers.0."
Past = list[tuple[Tensor, Tensor]]


class Drafter(nn.Module):
    """The layer. Embedding and lm_head are the target's."""

    def __init__(self, target: LlamaForCausalLM) -> None:
        super().__init__()
        self.token_layernorm, self.hidden_layernorm, self.input_layernorm = (
            nn.RMSNorm(WIDTH, eps=EPSILON) for _ in range(3)
        )
        self.post_attention_layernorm, self.final_layernorm = (nn.RMSNorm(WIDTH, eps=EPSILON) for _ in range(2))
        self.input_proj = nn.Linear(2 * WIDTH, WIDTH, bias=False)
        self.self_attn, self.mlp = Attention(WIDTH, has_bias=True), MLP()

    def step(self, embeds: Tensor, hidden: Tensor, past: Past) -> Tensor:
        """Returns the normed state, (batch, rows, WIDTH): lm_head's input, and the next step's hidden state."""
        if not past:  # row 0 of the first step stands at position 0, whose token the layer does not read
            embeds = torch.cat([torch.zeros_like(embeds[:, :1]), embeds[:, 1:]], 1)
        x = self.input_proj(torch.cat([self.hidden_layernorm(hidden), self.token_layernorm(embeds)], -1))
        x = x + self.self_attn(self.input_layernorm(x), past)
        return self.final_layernorm(x + self.mlp(self.post_attention_layernorm(x)))

    def loss(self, target: LlamaForCausalLM, ids: Tensor) -> Tensor:
        """Returns the weighted cross-entropy over ROLLOUT draft positions."""
        seen = observe(target, ids)
        wanted, hidden = seen.logits.softmax(-1), seen.unnormed
        past: Past = []
        total = torch.zeros((), device=ids.device)
        for step in range(ROLLOUT):
            rows = ids.shape[1] - 1 - step
            hidden = self.step(seen.embeds[:, 1 + step :], hidden[:, :rows], past)
            total = total + DECAY**step * soft_cross_entropy(target.lm_head(hidden), wanted[:, 1 + step :])
        return total

    @torch.no_grad()
    def propose(self, target: LlamaForCausalLM, tokens: Tensor, draft_length: int) -> list[int]:
        """Returns the greedy drafts after tokens (1, n), whose last is the bonus token."""
        embed = target.get_input_embeddings()
        past: Past = []
        hidden = self.step(embed(tokens[:, 1:]), observe(target, tokens[:, :-1]).unnormed, past)
        drafts = [int(target.lm_head(hidden[:, -1]).argmax())]
        while len(drafts) < draft_length:
            hidden = self.step(embed(torch.full_like(tokens[:, 1:], drafts[-1])), hidden, past)
            drafts.append(int(target.lm_head(hidden[:, -1]).argmax()))
        return drafts

    def save(self, folder: Path) -> None:
        """Writes the layer alone; `assemble` makes a target of it."""
        config = {"architectures": ["MiMoMTPModel"], "model_type": "llama"} | LLAMA_LIKE
        config |= {"num_hidden_layers": 0, "num_nextn_predict_layers": 1, "tie_word_embeddings": True}
        write(folder, {PREFIX + name: tensor for name, tensor in self.state_dict().items()}, config)


def assemble(target: Path, layer: Path, folder: Path) -> None:
    """Writes a MiMo target with its layer: the target's tensors, zero biases, and the layer's tensors.

    `model_type` stays "llama": with "qwen2", transformers would build another tokenizer than tokenizer.json's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file in target.iterdir():
        if file.name not in ("model.safetensors", "config.json"):
            shutil.copy(file, folder / file.name)
    tensors = load_file(target / "model.safetensors")
    for name in [name for name in tensors if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight"))]:
        tensors[name.removesuffix("weight") + "bias"] = torch.zeros(tensors[name].shape[0], dtype=tensors[name].dtype)
    save_file(tensors | load_file(layer / "model.safetensors"), folder / "model.safetensors", {"format": "pt"})
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    for key in ("attention_bias", "mlp_bias", "pretraining_tp"):
        config.pop(key, None)
    config |= {"architectures": ["MiMoForCausalLM"], "model_type": "llama", "num_nextn_predict_layers": 1}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=assemble.__doc__)
    parser.add_argument("folder", type=Path)
    assemble(BUNDLED / "target", BUNDLED / "mtp", parser.parse_args().folder)
