"""What speculative sampling must do on average, from the two models' distributions alone.

At a context with target distribution p and draft distribution q, rejection sampling (Leviathan et al.,
2211.17192) accepts the first draft with probability a = sum over tokens of min(p, q), and the first token that the
step emits, accepted or not, follows p.

Each verify step gives one event of known probability. The steps of a request are not independent (earlier tokens
choose later contexts), but each event's probability given everything before it is the one computed here, so the
sum of (event - probability) is a martingale with variance sum of probability x (1 - probability), and divided by
its root close to standard normal. Whether a step is among those counted is settled before its first draft is
drawn (it has a proposal if the request may emit two more tokens), and the first draft is accepted or not before
an end of sequence or the token limit can cut anything behind it. So the cut last step of a request biases nothing.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

Warp = Callable[[torch.Tensor], torch.Tensor]
"""Logits, one row a context, to the logits that are sampled from."""


@dataclass(frozen=True, kw_only=True)
class StepTruth:
    """One verify step: what happened at its first position, and how likely it was."""

    is_accepted: bool
    acceptance: float
    """Sum of min(p, q)."""
    is_over_drafted: bool
    """Whether the first emitted token is one that the draft likes better than the target (q > p)."""
    over_drafted: float
    """The target's probability of that: sum of p over the tokens with q > p."""


def z_score(events: Iterable[bool], probabilities: Iterable[float]) -> float:
    """Returns (number of events - expected number) / standard deviation of that number."""
    excess = variance = 0.0
    for event, probability in zip(events, probabilities, strict=True):
        excess += event - probability
        variance += probability * (1 - probability)
    return excess / math.sqrt(variance)


@torch.inference_mode()
def verify_step_truths(
    target: Any,
    draft: Any,
    prompt: Sequence[int],
    output: Sequence[int],
    steps: Iterable[tuple[int, int, int]],
    warp: Warp,
) -> list[StepTruth]:
    """Returns the truths of a request's verify steps. One forward pass of each model gives all contexts.

    Args:
        steps: (tokens emitted, drafts proposed, drafts accepted) of every step, the prefill first.
        warp: what sampling does to the logits of both models before the softmax.
    """
    input_ids = torch.tensor([[*prompt, *output]])
    p, q = (
        warp(model(input_ids=input_ids, use_cache=False).logits[0].double()).softmax(-1) for model in (target, draft)
    )
    truths = []
    position = len(prompt)
    for size, num_proposed, num_accepted in steps:
        if num_proposed > 0:
            p_here, q_here = p[position - 1], q[position - 1]
            is_over = q_here > p_here
            truths.append(
                StepTruth(
                    is_accepted=num_accepted >= 1,
                    acceptance=float(torch.minimum(p_here, q_here).sum().clamp(max=1)),
                    is_over_drafted=bool(is_over[int(input_ids[0, position])]),
                    over_drafted=float(p_here[is_over].sum().clamp(max=1)),
                )
            )
        position += size
    return truths


def warper(temperature: float, top_k: int = 0) -> Warp:
    """Returns temperature and then top-k, as transformers orders them."""

    def warp(logits: torch.Tensor) -> torch.Tensor:
        logits = logits / temperature
        if top_k > 0:
            smallest_kept = logits.topk(top_k, dim=-1).values[..., -1:]
            logits = logits.masked_fill(logits < smallest_kept, -torch.inf)
        return logits

    return warp
