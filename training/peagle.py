"""P-EAGLE: an EAGLE-3 head that writes K tokens in one pass, with a trained state in place of the unseen ones.

Source: "P-EAGLE: Parallel-Drafting EAGLE with Scalable Training" (2602.01469). Tensor names are those of vLLM's
`llama_eagle3.py`; `mask_hidden` goes through `fc`. The output projection is the target's, so that it is not stored.
"""

from pathlib import Path

import torch
from blocks import LLAMA_LIKE, attend, draw_anchors, mask_chains, weighted_cross_entropy, write
from eagle3 import AUX_LAYERS, EPSILON, WIDTH, Layer, rotate, split_heads
from observing import Observed, observe
from safetensors.torch import load_file
from tokenizer import PAD, VOCAB_SIZE
from torch import Tensor, nn
from transformers import LlamaForCausalLM

MASK = PAD
DRAFT_LENGTH, NUM_ANCHORS = 5, 32


class Drafter(nn.Module):
    """The head. Embedding and lm_head are the target's."""

    def __init__(self, target: LlamaForCausalLM) -> None:
        super().__init__()
        self.fc = nn.Linear(len(AUX_LAYERS) * WIDTH, WIDTH, bias=False)
        self.midlayer = Layer()
        self.norm = nn.RMSNorm(WIDTH, eps=EPSILON)
        self.mask_hidden = nn.Parameter(torch.randn(1, len(AUX_LAYERS) * WIDTH))

    def warm_start(self, bundled: Path) -> None:
        """Loads the bundled EAGLE-3 head's weights but for its output projection."""
        tensors = load_file(bundled / "eagle3" / "model.safetensors")
        tensors.pop("lm_head.weight")
        self.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, strict=False)

    def _states(self, target: LlamaForCausalLM, seen: Observed, embeds: Tensor, anchors: Tensor, depth: int) -> Tensor:
        """Returns the normed states of the real rows, then of each anchor's chain. Row r reads token r + 1."""
        batch, length = embeds.shape[:2]
        number = len(anchors) * depth
        aux = torch.cat([seen.outputs[layer - 1][:, :length] for layer in AUX_LAYERS], -1)
        hidden = self.fc(torch.cat([aux, self.mask_hidden.expand(batch, number, -1).to(aux.dtype)], 1))
        mask = target.get_input_embeddings().weight[MASK].detach().expand(batch, number, -1)
        positions, visible = mask_chains(length, anchors, depth)
        layer, attention = self.midlayer, self.midlayer.self_attn
        x = torch.cat([layer.input_layernorm(torch.cat([embeds, mask], 1)), layer.hidden_norm(hidden)], -1)
        q, k, v = (split_heads(f(x)) for f in (attention.q_proj, attention.k_proj, attention.v_proj))
        mixed = attention.o_proj(attend(rotate(q, positions), rotate(k, positions), v, visible))
        hidden = hidden + mixed
        return self.norm(hidden + layer.mlp(layer.post_attention_layernorm(hidden)))

    def loss(self, target: LlamaForCausalLM, ids: Tensor) -> Tensor:
        """Returns the cross-entropy of each anchor's row and its chain against the target's distributions."""
        seen = observe(target, ids)
        wanted = seen.logits.softmax(-1)
        depth, length = DRAFT_LENGTH - 1, ids.shape[1] - 1
        anchors = draw_anchors(length, depth, NUM_ANCHORS, ids.device)
        states = self._states(target, seen, seen.embeds[:, 1:], anchors, depth)
        chains = states[:, length:].unflatten(1, (len(anchors), depth))
        rows = torch.cat([states[:, anchors, None], chains], 2)
        places = 1 + anchors[:, None] + torch.arange(DRAFT_LENGTH, device=ids.device)
        real = target.lm_head(states[:, :length]).float().log_softmax(-1)
        return (
            weighted_cross_entropy(target.lm_head(rows), wanted[:, places])
            - 0.5 * (wanted[:, 1:] * real).sum(-1).mean()
        )

    @torch.no_grad()
    def propose(self, target: LlamaForCausalLM, tokens: Tensor, draft_length: int) -> list[int]:
        """Returns the drafts of one pass after tokens (1, n), whose last is the bonus token."""
        seen = observe(target, tokens[:, :-1])
        embeds = target.get_input_embeddings()(tokens[:, 1:])
        anchors = torch.tensor([embeds.shape[1] - 1], device=tokens.device)
        states = self._states(target, seen, embeds, anchors, draft_length - 1)
        return target.lm_head(states[0, -draft_length:]).argmax(-1).tolist()

    def save(self, folder: Path) -> None:
        """Writes vLLM's layout; `ptd_token_id` in its config.json names the mask."""
        config = {"architectures": ["LlamaForCausalLMEagle3"], "model_type": "llama"} | LLAMA_LIKE
        config |= {
            "num_hidden_layers": 1,
            "target_hidden_size": WIDTH,
            "draft_vocab_size": VOCAB_SIZE,
            "tie_word_embeddings": False,
            "ptd_token_id": MASK,
            "eagle_aux_hidden_state_layer_ids": list(AUX_LAYERS),
            "eagle_config": {
                "use_aux_hidden_state": True,
                "eagle_aux_hidden_state_layer_ids": [layer - 1 for layer in AUX_LAYERS],
            },
        }
        write(folder, dict(self.state_dict()), config)
