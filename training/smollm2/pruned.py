"""The draft: a few of the target's layers, distilled towards its distributions. Embeddings stay the target's."""

import shutil
from pathlib import Path
from typing import Any

import torch
from blocks import write
from safetensors.torch import load_file, save_file
from smollm2.fitting import Batch
from smollm2.network import Llama
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  (torch's own idiom)

EMBEDDINGS = "model.embed_tokens.weight"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


def kept_layers(num_layers: int, kept: int) -> list[int]:
    """Returns evenly spaced layers, the first and the last among them."""
    return [round(index * (num_layers - 1) / (kept - 1)) for index in range(kept)]


def prune(target: Llama, kept: int) -> Llama:
    """Returns a float32 copy of some of the target's layers, its embeddings without gradients."""
    embeddings = target.embed_tokens.weight
    draft = Llama(target.shape, kept, embeddings.shape[0]).to(embeddings.device)
    for ours, number in zip(draft.layers, kept_layers(len(target.layers), kept), strict=True):
        ours.load_state_dict(target.layers[number].state_dict())
    draft.norm.load_state_dict(target.norm.state_dict())
    draft.embed_tokens.weight.data.copy_(embeddings)
    draft.embed_tokens.requires_grad_(False)
    return draft


def distillation_loss(draft: Llama, target: Llama, batch: Batch) -> Tensor:
    """Returns the mean cross-entropy over reply tokens against the target's distributions."""
    is_reply = batch.is_reply[:, 1:]
    with torch.no_grad():
        wanted = target.logits(target(batch.ids).normed[:, :-1][is_reply]).float().softmax(-1)
    logits = draft.logits(draft(batch.ids).normed[:, :-1][is_reply])
    return F.cross_entropy(logits.float(), wanted)


@torch.no_grad()
def drafts(draft: Llama, ids: Tensor, draft_length: int) -> Tensor:
    """Returns (rows, T, draft_length): at token i, the drafts of tokens i + 1 and on, where i is the last one known.

    Each draft is made as if the ones before it were right, which is the only case in which it counts. Places without
    a draft hold -1.
    """
    with torch.autocast(ids.device.type, torch.bfloat16):
        chosen = draft.logits(draft(ids).normed).argmax(-1)
    found = torch.full((*ids.shape, draft_length), -1, dtype=torch.long, device=ids.device)
    for step in range(draft_length):
        found[:, : ids.shape[1] - step, step] = chosen[:, step:]
    return found


def save(draft: Llama, config: dict[str, Any], folder: Path) -> None:
    """Writes the draft without its embeddings: half its size, and the target's own."""
    tensors = {f"model.{name}": tensor for name, tensor in draft.state_dict().items() if f"model.{name}" != EMBEDDINGS}
    write(folder, tensors, {**config, "architectures": ["LlamaForCausalLM"], "num_hidden_layers": len(draft.layers)})


def load(draft: Llama, folder: Path) -> None:
    """Loads what `save` wrote; the draft keeps its embeddings."""
    tensors = load_file(folder / "model.safetensors")
    own = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    draft.load_state_dict({**draft.state_dict(), **own})


def complete(layers: Path, target: Path, folder: Path) -> None:
    """Writes the folder that engines load: the draft's layers with the target's embeddings and tokenizer."""
    tensors = load_file(layers / "model.safetensors")
    tensors[EMBEDDINGS] = load_file(target / "model.safetensors")[EMBEDDINGS]
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(layers / "config.json", folder)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for name in TOKENIZER_FILES:
        if (target / name).is_file():
            shutil.copy(target / name, folder)
