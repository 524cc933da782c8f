"""The EAGLE-3 head: `eagle3.py`'s at SmolLM2's shape, with the reply tokens that occur most as its vocabulary.

vLLM and SGLang read `d2t`: a draft token's id and its entry there add up to the target's id. `t2d` marks the target's
tokens that the head can draft; both engines leave it unread.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from blocks import write
from eagle3 import DECAY, Eagle3
from safetensors.torch import load_file
from smollm2.conversations import Conversations
from smollm2.fitting import Batch
from smollm2.network import Llama
from torch import Tensor, nn

ROLLOUT = 5
"""Draft positions that training unrolls."""


def aux_layers(num_layers: int) -> tuple[int, int, int]:
    """Returns the layers whose inputs are fused: early, middle, late. vLLM's own default for EAGLE-3."""
    return 2, num_layers // 2, num_layers - 3


def choose_vocabulary(rows: Conversations, vocab_size: int, size: int) -> Tensor:
    """Returns the target's ids of the `size` most frequent reply tokens, in ascending order."""
    counts = np.bincount(rows.ids[rows.is_reply], minlength=vocab_size)
    return torch.from_numpy(np.sort(np.argsort(-counts, kind="stable")[:size]))


class Head(nn.Module):
    """An EAGLE-3 head and the ids of its vocabulary."""

    def __init__(self, target: Llama, vocabulary: Tensor) -> None:
        super().__init__()
        self.eagle3 = Eagle3(target.shape, len(vocabulary))
        self.register_buffer("vocabulary", vocabulary)
        embeddings = target.embed_tokens.weight
        self.to(embeddings.device)
        self.eagle3.lm_head.weight.data.copy_(embeddings[self.vocabulary])
        self.eagle3.norm.weight.data.copy_(target.norm.weight)

    def unroll(self, embeds: Tensor, inputs: list[Tensor]) -> list[Tensor]:
        """Returns the logits of each draft step: of step j, (rows, T - 1 - j, draft vocabulary).

        Row r starts from the target's state after token r. Step j reads token r + 1 + j and drafts token r + 2 + j.
        """
        length = embeds.shape[1]
        aux = torch.cat([inputs[layer] for layer in aux_layers(len(inputs))], -1)
        hidden, past, drafted = self.eagle3.fc(aux).float(), list[tuple[Tensor, Tensor]](), list[Tensor]()
        for step in range(ROLLOUT):
            hidden = self.eagle3.midlayer(embeds[:, 1 + step :].float(), hidden[:, : length - 1 - step], past)
            drafted.append(self.eagle3.lm_head(self.eagle3.norm(hidden)))
        return drafted


def unrolled_loss(head: Head, target: Llama, batch: Batch) -> Tensor:
    """Returns the mean cross-entropy over reply tokens, draft steps weighted DECAY ** step.

    The target's distribution is over its whole vocabulary: what it gives to tokens that the head cannot draft counts
    for nothing, so that a position where it expects one of them weighs less.
    """
    with torch.no_grad():
        states = target(batch.ids)
        logits = target.logits(states.normed).float()
        wanted = (logits[..., head.vocabulary] - logits.logsumexp(-1, keepdim=True)).exp()
        embeds = target.embed_tokens(batch.ids)
        del logits
    total, weight, weights = 0.0, 1.0, 0.0
    for step, drafted in enumerate(head.unroll(embeds, states.inputs)):
        # Row r of this step drafts token r + 2 + step, of which the target's distribution is at r + 1 + step.
        is_reply = batch.is_reply[:, 2 + step :]
        log_drafted = drafted[:, :-1].float().log_softmax(-1)
        loss = -(wanted[:, 1 + step : -1] * log_drafted).sum(-1)
        total = total + weight * (loss * is_reply).sum() / is_reply.sum().clamp_min(1)
        weights += weight
        weight *= DECAY
    return total / weights


@torch.no_grad()
def drafts(head: Head, target: Llama, ids: Tensor) -> Tensor:
    """Returns (rows, T, ROLLOUT): at token i, the drafts of tokens i + 1 and on, where i is the last one known.

    Each draft is made as if the ones before it were right, which is the only case in which it counts. Places without
    a draft hold -1.
    """
    found = torch.full((*ids.shape, ROLLOUT), -1, dtype=torch.long, device=ids.device)
    with torch.autocast(ids.device.type, torch.bfloat16):
        steps = head.unroll(target.embed_tokens(ids), target(ids).inputs)
    for step, logits in enumerate(steps):
        # Row r knows token r + 1 and drafts token r + 2 + step.
        chosen = head.vocabulary[logits.argmax(-1)]
        found[:, 1 : 1 + chosen.shape[1], step] = chosen
    return found


def save(head: Head, config: dict[str, Any], folder: Path) -> None:
    """Writes the head in the layout that vLLM and SGLang read."""
    vocabulary = head.vocabulary.cpu()
    is_drafted = torch.zeros(config["vocab_size"], dtype=torch.bool)
    is_drafted[vocabulary] = True
    tensors = {**head.eagle3.state_dict(), "d2t": vocabulary - torch.arange(len(vocabulary)), "t2d": is_drafted}
    layers = aux_layers(config["num_hidden_layers"])
    theta = (config.get("rope_parameters") or config)["rope_theta"]
    copied = (
        *("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim", "hidden_act"),
        *("rms_norm_eps", "vocab_size", "max_position_embeddings", "bos_token_id", "eos_token_id", "pad_token_id"),
    )
    described = {
        "architectures": ["LlamaForCausalLMEagle3"],
        "model_type": "llama",
        **{key: config[key] for key in copied if config.get(key) is not None},
        "target_hidden_size": config["hidden_size"],
        "draft_vocab_size": len(vocabulary),
        "num_hidden_layers": 1,
        "rope_theta": theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
        "tie_word_embeddings": False,
        "attention_bias": False,
        "mlp_bias": False,
        "torch_dtype": "bfloat16",
        # vLLM counts a layer's input by its own number, SGLang by that of the layer before it.
        "eagle_aux_hidden_state_layer_ids": list(layers),
        "eagle_config": {
            "use_aux_hidden_state": True,
            "eagle_aux_hidden_state_layer_ids": [layer - 1 for layer in layers],
        },
    }
    write(folder, tensors, described)


def load(head: Head, folder: Path) -> None:
    """Loads what `save` wrote. Raises ValueError where the head's vocabulary is another one."""
    tensors = load_file(folder / "model.safetensors", device=str(head.vocabulary.device))
    offsets = tensors.pop("d2t")
    del tensors["t2d"]
    if not torch.equal(offsets + torch.arange(len(offsets), device=offsets.device), head.vocabulary):
        raise ValueError(f"{folder}: has another vocabulary than the training data give")
    head.eagle3.load_state_dict(tensors)
