"""The target and its draft: two Llamas, one trained on text, one on the other's distributions."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tokenizer import BOS, END, PAD, VOCAB_SIZE
from torch.nn import functional as F  # noqa: N812  (torch's own idiom)
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

MAX_SEQ_LEN = 8192
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def target_config() -> LlamaConfig:
    """Returns the target's shape: 4 layers of width 256, 3.7 M parameters."""
    return _config(hidden_size=256, intermediate_size=688, num_hidden_layers=4, num_attention_heads=4)


def draft_config() -> LlamaConfig:
    """Returns the draft's shape: 1 layer of width 128, 0.46 M parameters."""
    return _config(hidden_size=128, intermediate_size=344, num_hidden_layers=1, num_attention_heads=2)


def _config(**shape: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=VOCAB_SIZE,
        head_dim=64,  # a size that CPU attention kernels have
        num_key_value_heads=shape["num_attention_heads"],
        max_position_embeddings=MAX_SEQ_LEN,
        tie_word_embeddings=True,
        bos_token_id=BOS,
        eos_token_id=END,
        pad_token_id=PAD,
        **shape,
    )


def batches(tokens: np.ndarray, batch: int, length: int, seed: int) -> Iterator[torch.Tensor]:
    """Yields int64 (batch, length) windows at random places of one stream of tokens, without end."""
    rng = np.random.default_rng(seed)
    offsets = np.arange(length)
    while True:
        starts = rng.integers(0, len(tokens) - length, size=batch)
        yield torch.from_numpy(tokens[starts[:, None] + offsets].astype(np.int64)).to(DEVICE)


def optimizer_for(model: torch.nn.Module, rate: float, steps: int) -> tuple[torch.optim.Optimizer, object]:
    """Returns AdamW and its schedule: 5% warm-up, then a cosine to a tenth."""
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=rate, betas=(0.9, 0.95), weight_decay=0.05
    )
    warmup = max(1, steps // 20)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def fit(model: torch.nn.Module, loss_of: object, data: Iterator[torch.Tensor], rate: float, steps: int) -> float:
    """Minimizes `loss_of(batch)` over the model; returns the mean loss of the last 5% of steps."""
    optimizer, schedule = optimizer_for(model, rate, steps)
    model.train()
    losses = []
    for step in range(steps):
        with torch.autocast(DEVICE, torch.bfloat16):
            loss = loss_of(next(data))  # type: ignore[operator]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()  # type: ignore[attr-defined]
        losses.append(loss.detach())
        if step % 200 == 0 or step == steps - 1:
            print(f"  step {step:5d} loss {losses[-1].item():.4f}", flush=True)
    model.eval()
    return torch.stack(losses[-max(1, steps // 20) :]).mean().item()


def train_target(tokens: np.ndarray, steps: int, batch: int, length: int, seed: int) -> tuple[LlamaForCausalLM, float]:
    """Returns the target, trained to predict the stream's next tokens, and its final loss (nats a token)."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(target_config()).to(DEVICE)

    def loss_of(ids: torch.Tensor) -> torch.Tensor:
        logits = model(input_ids=ids, use_cache=False).logits
        return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten())

    return model, fit(model, loss_of, batches(tokens, batch, length, seed), 2e-3, steps)


def train_draft(
    target: LlamaForCausalLM, data: Iterator[torch.Tensor], steps: int, seed: int
) -> tuple[LlamaForCausalLM, float]:
    """Returns the draft, trained towards the target's distribution at every position, and its cross-entropy."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(draft_config()).to(DEVICE)

    def loss_of(ids: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            wanted = target(input_ids=ids, use_cache=False).logits.float().softmax(-1)
        return soft_cross_entropy(model(input_ids=ids, use_cache=False).logits, wanted)

    return model, fit(model, loss_of, data, 3e-3, steps)


def soft_cross_entropy(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Returns the mean cross-entropy of logits (..., V) against the distributions `wanted` (..., V)."""
    return -(wanted * logits.float().log_softmax(-1)).sum(-1).mean()


@torch.no_grad()
def generate(
    target: LlamaForCausalLM, prompts: list[list[int]], max_new_tokens: int, batch: int, seed: int
) -> np.ndarray:
    """Returns one stream of the prompts with the target's own replies: every other batch greedy, the rest sampled."""
    torch.manual_seed(seed)
    stream: list[int] = []
    for number, start in enumerate(range(0, len(prompts), batch)):
        chosen = prompts[start : start + batch]
        longest = max(map(len, chosen))
        ids = torch.tensor([[PAD] * (longest - len(p)) + p for p in chosen], device=DEVICE)
        with torch.autocast(DEVICE, torch.bfloat16):
            out = target.generate(
                input_ids=ids,
                attention_mask=(ids != PAD).long(),
                max_new_tokens=max_new_tokens,
                eos_token_id=END,
                pad_token_id=PAD,
                **({"do_sample": True, "temperature": 1.0, "top_k": 0} if number % 2 else {"do_sample": False}),
            )
        for prompt, row in zip(chosen, out[:, longest:].tolist(), strict=True):
            stream += prompt + [token for token in row if token != PAD]
    return np.array(stream, dtype=np.uint16)


def save(model: LlamaForCausalLM, folder: Path) -> None:
    """Writes bfloat16 weights, and a generation config that holds the special tokens alone."""
    model = model.to("cpu", torch.bfloat16)
    model.generation_config = GenerationConfig(bos_token_id=BOS, eos_token_id=END, pad_token_id=PAD)
    model.save_pretrained(folder)
