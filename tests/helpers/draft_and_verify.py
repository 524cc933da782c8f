"""Greedy decoding, plain and draft-and-verify, written down once more in its simplest form.

Nothing here is shared with the engines: no `generate`, no cache, no hooks. Every next token comes from one
forward pass over the whole sequence so far (a tiny model's sequences are short; what was asked once is
remembered), so there is no state that could go wrong.

The rules:

- The prefill emits one token and is not a decode step. A decode step is one pass of the target after it.
- A decode step verifies up to K drafts: it keeps them up to the first that is not the target's own next token,
  then adds the target's own token, the bonus or the correction. A step with at least one draft is a verify step.
- A drafted stop token ends the draft. An accepted stop token is accepted; it ends the request without a bonus.
- The last token that a request may emit is the target's own, so at most `remaining - 1` drafts are proposals.
- Before `min_new_tokens` tokens are out, neither target nor draft can choose a stop token.
- The draft model proposes its own greedy continuation of the context.
- Prompt lookup takes the last n tokens of the context, n = ngram_max first and then shorter down to 1, finds their
  leftmost earlier occurrence and proposes the up to K tokens that followed it: fewer where the context ends. From
  that continuation a stop token and what follows it are dropped, so a stop token is never proposed, and a
  continuation that starts with one leaves nothing to propose: no shorter n-gram is tried. While stop tokens are
  forbidden by `min_new_tokens` the continuation is cut before the first as well, but one that starts with it
  passes the search on to the next occurrence. This is what transformers' prompt lookup does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

Context = tuple[int, ...]
Propose = Callable[[Context, int, int], list[int]]
"""(context, tokens emitted so far, most drafts wanted) -> drafts."""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """When a request ends."""

    max_new_tokens: int
    stops: frozenset[int] = frozenset()
    min_new_tokens: int = 0

    def forbidden(self, num_emitted: int) -> frozenset[int]:
        """Returns the tokens that cannot follow `num_emitted` tokens of output."""
        return self.stops if num_emitted < self.min_new_tokens else frozenset()


class Step(NamedTuple):
    """What one target pass emitted. The first is the prefill."""

    token_ids: tuple[int, ...]
    drafts: tuple[int, ...]
    num_accepted: int

    @property
    def counts(self) -> tuple[int, int, int]:
        """(tokens emitted, drafts proposed, drafts accepted)."""
        return len(self.token_ids), len(self.drafts), self.num_accepted


@dataclass(frozen=True)
class Outcome:
    """One request."""

    steps: tuple[Step, ...]

    @property
    def token_ids(self) -> list[int]:
        return [token_id for step in self.steps for token_id in step.token_ids]

    @property
    def num_decode_steps(self) -> int:
        return len(self.steps) - 1

    def histogram(self, k: int) -> list[int]:
        """Returns the number of verify steps that accepted exactly j drafts, for j = 0..k."""
        accepted = [step.num_accepted for step in self.steps if step.drafts]
        return [accepted.count(j) for j in range(k + 1)]


class GreedyModel:
    """A model asked for one next token at a time."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._known: dict[tuple[Context, frozenset[int]], int] = {}

    @torch.inference_mode()
    def logits(self, context: Context) -> torch.Tensor:
        """Returns the logits of the token after `context`."""
        row: torch.Tensor = self._model(input_ids=torch.tensor([context]), use_cache=False).logits[0, -1]
        return row

    def gap(self, context: Context) -> float:
        """Returns how far the most likely next token's logit is above the second's."""
        first, second = self.logits(context).topk(2).values.tolist()
        return float(first - second)

    def next(self, context: Context, forbidden: frozenset[int] = frozenset()) -> int:
        """Returns the most likely token after `context` that is not forbidden."""
        key = (context, forbidden)
        if key not in self._known:
            row = self.logits(context).clone()
            row[list(forbidden)] = -torch.inf
            self._known[key] = int(row.argmax())
        return self._known[key]


def propose_nothing(context: Context, num_emitted: int, most: int) -> list[int]:
    """Plain decoding."""
    return []


def draft_model(draft: GreedyModel, ending: Ending) -> Propose:
    """Returns the proposals of a draft model."""

    def propose(context: Context, num_emitted: int, most: int) -> list[int]:
        drafts: list[int] = []
        while len(drafts) < most:
            drafts.append(draft.next((*context, *drafts), ending.forbidden(num_emitted + len(drafts))))
            if drafts[-1] in ending.stops:
                break
        return drafts

    return propose


def prompt_lookup(k: int, ngram_max: int, ending: Ending) -> Propose:
    """Returns the proposals of n-gram lookup in the context."""

    def propose(context: Context, num_emitted: int, most: int) -> list[int]:
        for n in range(min(ngram_max, len(context) - 1), 0, -1):
            for start in range(len(context) - n):
                if context[start : start + n] != context[-n:]:
                    continue
                found = list(context[start + n : start + n + k])
                allowed = before(found, lambda i, token_id: token_id in ending.forbidden(num_emitted + i))
                if allowed:
                    return before(allowed, lambda i, token_id: token_id in ending.stops)[:most]
        return []

    return propose


def before(token_ids: Sequence[int], is_end: Callable[[int, int], bool]) -> list[int]:
    """Returns the tokens in front of the first for which `is_end(position, token)`."""
    end = next((i for i, token_id in enumerate(token_ids) if is_end(i, token_id)), len(token_ids))
    return list(token_ids[:end])


def decode(
    target: GreedyModel, prompt: Sequence[int], ending: Ending, k: int = 0, propose: Propose = propose_nothing
) -> Outcome:
    """Returns one request, decoded with up to `k` drafts a step."""
    context, num_emitted = tuple(prompt), 0
    steps: list[Step] = []
    while True:
        remaining = ending.max_new_tokens - num_emitted
        drafts = propose(context, num_emitted, min(k, remaining - 1)) if steps else []
        emitted: list[int] = []
        num_accepted = 0
        while not (emitted and emitted[-1] in ending.stops):
            own = target.next((*context, *emitted), ending.forbidden(num_emitted + len(emitted)))
            emitted.append(own)
            if num_accepted == len(drafts) or own != drafts[num_accepted]:
                break
            num_accepted += 1
        steps.append(Step(tuple(emitted), tuple(drafts), num_accepted))
        context, num_emitted = (*context, *emitted), num_emitted + len(emitted)
        if emitted[-1] in ending.stops or num_emitted == ending.max_new_tokens:
            return Outcome(tuple(steps))
