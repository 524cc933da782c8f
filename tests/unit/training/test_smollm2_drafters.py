"""SmolLM2's drafters: what their files are taken for, and that their acceptance is what drafting one by one gives."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from smollm2 import acceptance, pruned
from smollm2 import head as eagle3_head
from smollm2.conversations import Conversations
from smollm2.fitting import Batch, batches, fit
from smollm2.network import Llama, load_target
from transformers import LlamaConfig, LlamaForCausalLM

from specdec_bench.checkpoints.drafter_kind import identify_drafter
from specdec_bench.checkpoints.weights import read_weights

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "num_hidden_layers": 6,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e4,
    "vocab_size": 40,
    "tie_word_embeddings": True,
}
VOCABULARY = torch.tensor([2, 3, 10, 11, 12, 30])
CPU = torch.device("cpu")


def rows(length: int = 24, number: int = 4) -> Conversations:
    ids = np.random.default_rng(0).integers(9, 40, (number, length)).astype(np.uint16)
    return Conversations(ids=ids, is_reply=np.ones(ids.shape, bool), is_greedy=np.ones(number, bool))


def kind(folder: Path) -> str:
    weights = read_weights(folder)
    assert weights is not None
    found = identify_drafter(json.loads((folder / "config.json").read_text()), weights.tensors)
    assert found is not None
    return found.kind


def test_the_network_computes_what_transformers_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = LlamaForCausalLM(LlamaConfig(**CONFIG)).eval()
    theirs.save_pretrained(tmp_path)
    ours = load_target(tmp_path, CPU)
    ids = torch.arange(12)[None] + 5
    with torch.no_grad():
        wanted = theirs(input_ids=ids, output_hidden_states=True)
    states = ours(ids)
    assert torch.allclose(ours.logits(states.normed), wanted.logits, atol=1e-5)
    for mine, other in zip(states.inputs, wanted.hidden_states, strict=False):
        assert torch.allclose(mine, other, atol=1e-5)


def test_the_vocabulary_is_the_most_frequent_reply_tokens() -> None:
    ids = np.array([[7, 5, 5, 9, 9, 9, 4]], np.uint16)
    is_reply = np.array([[False, True, True, True, True, True, True]])
    chosen = eagle3_head.choose_vocabulary(
        Conversations(ids=ids, is_reply=is_reply, is_greedy=np.array([True])), vocab_size=10, size=2
    )
    assert chosen.tolist() == [5, 9]


def test_the_heads_files(target: Llama, tmp_path: Path) -> None:
    head = eagle3_head.Head(target, VOCABULARY)
    eagle3_head.save(head, CONFIG, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    assert (tensors["d2t"] + torch.arange(6)).tolist() == VOCABULARY.tolist()
    assert tensors["t2d"].nonzero().flatten().tolist() == VOCABULARY.tolist()
    assert tensors["lm_head.weight"].shape == (6, 32)
    assert tensors["lm_head.weight"].dtype == torch.bfloat16
    assert kind(tmp_path) == "eagle3"
    other = eagle3_head.Head(target, VOCABULARY + 1)
    with pytest.raises(ValueError, match="has another vocabulary"):
        eagle3_head.load(other, tmp_path)


def test_the_drafts_files(target: Llama, tmp_path: Path) -> None:
    folder, layers = tmp_path / "target", tmp_path / "layers"
    folder.mkdir()
    save_file({pruned.EMBEDDINGS: target.embed_tokens.weight.to(torch.bfloat16)}, folder / "model.safetensors")
    pruned.save(pruned.prune(target, 3), CONFIG, layers)
    assert pruned.EMBEDDINGS not in load_file(layers / "model.safetensors")
    pruned.complete(layers, folder, tmp_path / "draft")
    assert kind(tmp_path / "draft") == "model"
    loaded = LlamaForCausalLM.from_pretrained(tmp_path / "draft")
    assert torch.equal(loaded.lm_head.weight, target.embed_tokens.weight.to(torch.bfloat16))
    assert json.loads((tmp_path / "draft" / "config.json").read_text())["num_hidden_layers"] == 3


def test_evenly_spaced_layers_are_kept() -> None:
    assert pruned.kept_layers(30, 5) == [0, 7, 14, 22, 29]


def test_drafts_of_the_head_are_those_of_drafting_one_by_one(target: Llama) -> None:
    head = eagle3_head.Head(target, VOCABULARY)
    ids = torch.from_numpy(rows().ids.astype(np.int64))
    found = eagle3_head.drafts(head, target, ids)
    known = 10  # the last token that is known
    drafted: list[int] = []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for step in range(eagle3_head.ROLLOUT):
            # Cut off after what this step may see: the tokens up to `known`, and the ones that were taken for right.
            seen = ids[:1, : known + 1 + step]
            logits = head.unroll(target.embed_tokens(seen), target(seen).inputs)[step]
            drafted.append(int(VOCABULARY[logits[0, -1].argmax()]))
    assert found[0, known].tolist() == drafted


def test_drafts_of_the_model_are_its_next_tokens(target: Llama) -> None:
    ids = torch.from_numpy(rows().ids.astype(np.int64))
    with torch.autocast("cpu", torch.bfloat16):
        chosen = target.logits(target(ids).normed).argmax(-1)
    found = pruned.drafts(target, ids, 3)
    assert found[1, 5].tolist() == chosen[1, 5:8].tolist()
    assert found[1, -1].tolist() == [chosen[1, -1].item(), -1, -1]


def test_steps_are_walked_along_the_reply() -> None:
    tokens = [9, 9, 1, 2, 3, 4, 5, 6]
    nothing = [0, 0]
    drafts = [nothing, nothing, [2, 3], nothing, nothing, [6, 0], [6, 0], nothing]
    # From 1: both are right, and 4 is the target's own. From 4: wrong. From 5: the only one that counts is right.
    assert list(acceptance.walk(tokens, drafts, first=2, end=8)) == [2, 0, 1]
    assert list(acceptance.walk(tokens, [nothing] * 8, first=2, end=8)) == [0] * 5
    counted = acceptance.Acceptance(steps=2, accepted_by_position=[2, 1])
    assert counted.length == 2.5


def test_replies_are_cut_where_measuring_ends() -> None:
    marks = [False, True, True, False, *[True] * 200]
    assert list(acceptance.replies(marks)) == [(1, 3), (4, 4 + acceptance.MAX_REPLY_TOKENS)]


@pytest.mark.parametrize("drafter", ["eagle3", "draft"])
def test_training_lowers_the_loss(target: Llama, drafter: str) -> None:
    torch.manual_seed(0)
    if drafter == "eagle3":
        head = eagle3_head.Head(target, torch.arange(40))
        model, loss_of = head, lambda batch: eagle3_head.unrolled_loss(head, target, batch)
    else:
        draft = pruned.prune(target, 3)
        model, loss_of = draft, lambda batch: pruned.distillation_loss(draft, target, batch)
    first: list[float] = []

    def noted(batch: Batch) -> torch.Tensor:
        loss: torch.Tensor = loss_of(batch)
        first.append(loss.item())
        return loss

    saved: list[int] = []
    done = fit(model, noted, batches(rows(), 2, 0, CPU), rate=1e-2, seconds=1.5, on_checkpoint=lambda: saved.append(1))
    assert done.steps == len(first)
    assert done.tokens == done.steps * 2 * 24
    assert min(first) < first[0] - 0.01
    assert len(saved) == 1
