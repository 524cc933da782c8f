"""What a drafter sees of the target, and how often its drafts are what the target writes."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from tokenizer import END
from torch import Tensor
from transformers import LlamaForCausalLM

Propose = Callable[[Tensor, int], list[int]]
"""propose(tokens, draft_length) -> drafts. `tokens` is (1, n); its last token is the bonus token."""


@dataclass(frozen=True, kw_only=True)
class Observed:
    """The target's states over ids (batch, T). Index i of each belongs to token i."""

    logits: Tensor
    """(batch, T, V): at i, those of token i + 1."""
    normed: Tensor
    """(batch, T, H): the last layer's output after the final norm."""
    unnormed: Tensor
    """(batch, T, H): the last layer's output before the final norm."""
    outputs: tuple[Tensor, ...]
    """(batch, T, H) for each layer: its output. The last is `unnormed`."""
    embeds: Tensor
    """(batch, T, H): the token embeddings."""


@torch.no_grad()
def observe(target: LlamaForCausalLM, ids: Tensor) -> Observed:
    """Returns the target's states over ids (batch, T)."""
    before_norm: list[Tensor] = []
    hook = target.model.norm.register_forward_pre_hook(lambda _, inputs: before_norm.append(inputs[0]))
    try:
        out = target(input_ids=ids, use_cache=False, output_hidden_states=True)
    finally:
        hook.remove()
    (unnormed,) = before_norm
    states = out.hidden_states
    return Observed(
        logits=out.logits.float(),
        normed=states[-1],
        unnormed=unnormed,
        outputs=(*states[1:-1], unnormed),
        embeds=target.get_input_embeddings()(ids),
    )


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """Counts of greedy drafting and verifying."""

    steps: int
    accepted_by_position: tuple[int, ...]
    """Entry j: in how many steps drafts 1 to j + 1 were all accepted."""

    @property
    def length(self) -> float:
        """Returns tokens a step: the accepted drafts and one of the target's own."""
        return 1 + sum(self.accepted_by_position) / self.steps


@torch.no_grad()
def measure_acceptance(
    propose: Propose, target: LlamaForCausalLM, prompts: list[list[int]], draft_length: int, max_new_tokens: int
) -> Acceptance:
    """Returns the counts over the prompts, recomputed without caches.

    A draft is accepted if it and all before it are the target's most probable tokens. The prefill's token opens the
    first step. A step that passes the end of the reply or the limit still counts all drafts that it accepted.
    """
    steps, by_position = 0, [0] * draft_length

    def greedy(tokens: list[int]) -> Tensor:
        return target(input_ids=torch.tensor([tokens], device=target.device), use_cache=False).logits[0].argmax(-1)

    for prompt in prompts:
        tokens = [*prompt, int(greedy(prompt)[-1])]
        while len(tokens) - len(prompt) < max_new_tokens and tokens[-1] != END:
            drafts = propose(torch.tensor([tokens], device=target.device), draft_length)
            wanted = greedy(tokens + drafts)[len(tokens) - 1 :].tolist()
            accepted = 0
            while accepted < draft_length and drafts[accepted] == wanted[accepted]:
                by_position[accepted] += 1
                accepted += 1
            new = wanted[: accepted + 1]
            tokens += new[: new.index(END) + 1] if END in new else new
            steps += 1
    return Acceptance(steps=steps, accepted_by_position=tuple(by_position))
