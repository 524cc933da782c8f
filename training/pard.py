"""PARD: the bundled draft, taught to write K tokens in one pass over K - 1 mask tokens.

Source: An et al., "PARD: Accelerating LLM Inference with Low-Cost PARallel Draft Model Adaptation" (2504.18583).
"""

import json
from pathlib import Path

import torch
from blocks import draw_anchors, mask_chains, weighted_cross_entropy
from llama import draft_config
from llama import save as save_llama
from observing import observe
from tokenizer import PAD
from torch import Tensor, nn
from transformers import LlamaForCausalLM

MASK = PAD
"""The mask token: its row is in the embedding, and no conversation holds it."""
DRAFT_LENGTH, NUM_ANCHORS = 8, 32


class Drafter(nn.Module):
    """The draft model."""

    def __init__(self, target: LlamaForCausalLM) -> None:
        super().__init__()
        self.model = LlamaForCausalLM(draft_config())

    def warm_start(self, bundled: Path) -> None:
        """Loads the bundled draft's weights."""
        self.model = LlamaForCausalLM.from_pretrained(bundled / "draft", dtype=torch.float32)

    def _logits(self, tokens: Tensor, anchors: Tensor, depth: int) -> Tensor:
        masks = torch.full((tokens.shape[0], len(anchors) * depth), MASK, device=tokens.device)
        positions, visible = mask_chains(tokens.shape[1], anchors, depth)
        batch = tokens.shape[0]
        return self.model(
            input_ids=torch.cat([tokens, masks], 1),
            attention_mask=visible.expand(batch, 1, -1, -1),
            position_ids=positions.expand(batch, -1),
            use_cache=False,
        ).logits

    def loss(self, target: LlamaForCausalLM, ids: Tensor) -> Tensor:
        """Returns the cross-entropy of each anchor's row and its chain against the target's distributions there."""
        wanted = observe(target, ids).logits.softmax(-1)
        depth, length = DRAFT_LENGTH - 1, ids.shape[1]
        anchors = draw_anchors(length, depth, NUM_ANCHORS, ids.device)
        logits = self._logits(ids, anchors, depth)
        chains = logits[:, length:].unflatten(1, (len(anchors), depth))
        rows = torch.cat([logits[:, anchors, None], chains], 2)
        places = anchors[:, None] + torch.arange(DRAFT_LENGTH, device=ids.device)
        real = -(wanted * logits[:, :length].float().log_softmax(-1)).sum(-1).mean()
        return weighted_cross_entropy(rows, wanted[:, places]) + 0.5 * real

    @torch.no_grad()
    def propose(self, target: LlamaForCausalLM, tokens: Tensor, draft_length: int) -> list[int]:
        """Returns the drafts of one pass after tokens (1, n), whose last is the bonus token."""
        anchors = torch.tensor([tokens.shape[1] - 1], device=tokens.device)
        return self._logits(tokens, anchors, draft_length - 1)[0, -draft_length:].argmax(-1).tolist()

    def save(self, folder: Path) -> None:
        """Writes a draft model's folder; `pard_token` in its config.json names the mask."""
        save_llama(self.model, folder)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | {"pard_token": MASK}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
