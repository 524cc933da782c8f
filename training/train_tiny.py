"""Trains the bundled models: `python training/train_tiny.py STAGE --work DIR`, stages in the order of --help.

Each stage reads what the ones before it left in the work directory, so that they can run on different machines:
`corpus` where a Python 3.11 is, the others where a GPU is.
"""

import argparse
import itertools
import random
import time
from pathlib import Path

import corpus
import eagle3
import llama
import numpy as np
import tokenizer as tokenization
import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

SEED = 20_260_000


def encoded(work: Path, num_conversations: int, seed: int) -> list[list[int]]:
    """Returns that many conversations as token ids."""
    chats = corpus.conversations(corpus.read(work / "corpus.json.xz"), random.Random(seed))
    texts = [corpus.render(turns) for turns in itertools.islice(chats, num_conversations)]
    return [row.ids for row in load_tokenizer(work).encode_batch(texts)]


def load_tokenizer(work: Path) -> Tokenizer:
    """Returns the trained tokenizer."""
    return Tokenizer.from_file(str(work / "target" / "tokenizer.json"))


def load_target(work: Path) -> LlamaForCausalLM:
    """Returns the trained target as its users will have it: in bfloat16's precision."""
    return LlamaForCausalLM.from_pretrained(work / "target", dtype=torch.float32).to(llama.DEVICE).eval()


def mixed(work: Path, batch: int, length: int) -> "itertools.chain[torch.Tensor]":
    """Yields batches without end: one of the corpus, one of the target's own generations, and so on."""
    of_corpus = llama.batches(np.load(work / "tokens.npy"), batch, length, SEED + 1)
    of_target = llama.batches(np.load(work / "generated.npy"), batch, length, SEED + 2)
    return itertools.chain.from_iterable(zip(of_corpus, of_target, strict=False))


def train_tokenizer(work: Path, options: argparse.Namespace) -> None:
    """Trains the tokenizer and encodes the training conversations."""
    trained = tokenization.train(corpus.read(work / "corpus.json.xz"))
    for name in ("target", "draft"):
        tokenization.save(trained, work / name, llama.MAX_SEQ_LEN)
    rows = encoded(work, options.conversations, SEED)
    np.save(work / "tokens.npy", np.array(list(itertools.chain.from_iterable(rows)), dtype=np.uint16))
    print(f"tokens: {sum(map(len, rows)):,}")


def train_target(work: Path, options: argparse.Namespace) -> None:
    """Trains the target."""
    tokens = np.load(work / "tokens.npy")
    model, loss = llama.train_target(tokens, options.steps, options.batch, options.length, SEED)
    print(f"target: loss {loss:.4f}, {model.num_parameters():,} parameters")
    llama.save(model, work / "target")


def generate(work: Path, options: argparse.Namespace) -> None:
    """Lets the target answer prompts of its own training text."""
    assistant = load_tokenizer(work).token_to_id("<|assistant|>")
    rows = encoded(work, options.conversations // 4, SEED + 3)
    prompts = [row[: row.index(assistant) + 1] for row in rows]
    prompts = [prompt for prompt in prompts if len(prompt) <= 300]
    stream = llama.generate(load_target(work), prompts, 192, options.generate_batch, SEED)
    np.save(work / "generated.npy", stream)
    print(f"generated: {len(prompts):,} replies, {len(stream):,} tokens with their prompts")


def train_draft(work: Path, options: argparse.Namespace) -> None:
    """Distils the draft."""
    data = mixed(work, options.batch * 2, options.length // 2)
    model, loss = llama.train_draft(load_target(work), data, options.steps, SEED)
    print(f"draft: cross-entropy {loss:.4f}, {model.num_parameters():,} parameters")
    llama.save(model, work / "draft")


def train_eagle3(work: Path, options: argparse.Namespace) -> None:
    """Trains the EAGLE-3 head and measures it on replies that it was not trained on."""
    target = load_target(work)
    torch.manual_seed(SEED)
    head = eagle3.Eagle3().to(llama.DEVICE)
    head.lm_head.weight.data.copy_(target.lm_head.weight.data)
    data = mixed(work, options.batch, options.length // 2)
    loss = llama.fit(head, lambda ids: eagle3.unrolled_loss(head, target, ids), data, 2e-3, options.steps)
    print(f"eagle3: loss {loss:.4f}, {sum(p.numel() for p in head.parameters()):,} parameters")
    eagle3.save(head, work / "eagle3")
    head.to(llama.DEVICE).float()
    assistant = load_tokenizer(work).token_to_id("<|assistant|>")
    prompts = [row[: row.index(assistant) + 1] for row in encoded(work, 24, SEED + 4)]
    lengths = [eagle3.acceptance_length(head, target, prompt, 3, 64) for prompt in prompts if len(prompt) <= 300]
    print(f"eagle3: acceptance length at K=3 over {len(lengths)} prompts: {np.nanmean(lengths):.3f}")


STAGES = {
    "tokenizer": train_tokenizer,
    "target": train_target,
    "generate": generate,
    "draft": train_draft,
    "eagle3": train_eagle3,
}


def main() -> None:
    """Runs the stages asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "stages", nargs="+", choices=["corpus", *STAGES], metavar="STAGE", help="corpus, " + ", ".join(STAGES)
    )
    parser.add_argument("--work", type=Path, required=True, help="where the stages leave their files")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=64, help="rows of a step")
    parser.add_argument("--length", type=int, default=1024, help="tokens of a row")
    parser.add_argument("--conversations", type=int, default=80_000)
    parser.add_argument("--generate-batch", type=int, default=1024)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    for stage in options.stages:
        began = time.perf_counter()
        if stage == "corpus":
            corpus.collect(options.work / "corpus.json.xz")
        else:
            STAGES[stage](options.work, options)
        print(f"{stage}: {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
