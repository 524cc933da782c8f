"""The training loop: as many steps as fit in a time, with a state on disk every minute."""

import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from smollm2.conversations import Conversations
from torch import Tensor, nn

PROGRESS_S, CHECKPOINT_S = 20, 60


class Batch(NamedTuple):
    """Rows of conversations; each is (rows, length)."""

    ids: Tensor
    is_reply: Tensor


class Fit(NamedTuple):
    """What a training run did."""

    steps: int
    tokens: int
    loss: float
    """Mean of the last 5% of steps."""
    seconds: float


def batches(rows: Conversations, batch: int, seed: int, device: torch.device) -> Iterator[Batch]:
    """Yields batches without end, all rows once an epoch in an order of its own."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(rows.ids))
        for begin in range(0, max(1, len(order) - batch + 1), batch):
            chosen = rows[order[begin : begin + batch]]
            ids = torch.from_numpy(chosen.ids.astype(np.int64))
            yield Batch(ids.to(device), torch.from_numpy(chosen.is_reply).to(device))


def fit(
    model: nn.Module,
    loss_of: Callable[[Batch], Tensor],
    data: Iterator[Batch],
    *,
    rate: float,
    seconds: float,
    on_checkpoint: Callable[[], None],
) -> Fit:
    """Minimizes the loss for that time: AdamW, warmed up over 3% of it, then along a cosine to a twentieth.

    The schedule follows the clock, so that a slower machine makes fewer steps of the same schedule.
    """
    parameters = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.95), weight_decay=0.01)
    device = parameters[0].device.type
    losses: list[Tensor] = []
    tokens, began = 0, time.perf_counter()
    shown = saved = began
    while (elapsed := time.perf_counter() - began) < seconds or not losses:
        optimizer.param_groups[0]["lr"] = rate * _factor(elapsed / seconds)
        batch = next(data)
        with torch.autocast(device, torch.bfloat16):
            loss = loss_of(batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append(loss.detach())
        tokens += batch.ids.numel()
        if len(losses) % 4 == 0:  # queued kernels must not outrun the clock
            losses[-1].item()
        now = time.perf_counter()
        if now - shown > PROGRESS_S:
            shown = now
            recent = torch.stack(losses[-50:]).mean().item()
            rate_text = f"{tokens / (now - began):,.0f} tokens/s"
            print(f"  {now - began:4.0f} s, step {len(losses)}, loss {recent:.4f}, {rate_text}", flush=True)
        if now - saved > CHECKPOINT_S:
            saved = now
            on_checkpoint()
    last = torch.stack(losses[-max(1, len(losses) // 20) :]).mean().item()
    on_checkpoint()
    return Fit(len(losses), tokens, last, time.perf_counter() - began)


def _factor(progress: float) -> float:
    """Returns the learning rate's factor at this share of the time."""
    if progress < 0.03:
        return max(progress / 0.03, 0.01)
    return 0.05 + 0.475 * (1 + math.cos(math.pi * min(1, (progress - 0.03) / 0.97)))
