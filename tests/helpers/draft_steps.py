"""Replays the verify steps of a greedy run: which drafts a drafter makes there, and how many of them are accepted."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from specdec_bench.records.request import RequestRecord
from tests.helpers.drafters_in_torch import Drafter
from tests.helpers.llama_in_torch import Llama


class Mismatch(NamedTuple):
    """A verify step of which the engine accepted another number of drafts."""

    request_id: str
    step: int
    found: int
    expected: int
    gap: float
    """How far the best logit is above the second at the first draft that the two treat differently."""


class Replay(NamedTuple):
    """All verify steps of some requests."""

    steps: int
    mismatches: list[Mismatch]


def count_accepted(draft_logits: Tensor, reply: Tensor) -> int:
    """Returns how many greedy drafts, (K, vocabulary), in a row are the next tokens of the reply."""
    drafts = draft_logits[: len(reply)].argmax(-1)
    return int((drafts == reply[: len(drafts)]).long().cumprod(0).sum())


@torch.inference_mode()
def replay(drafter: Drafter, target: Llama, records: Iterable[RequestRecord], k: int) -> Replay:
    """Returns where the recorded counts differ from those that `drafter` has on the same reply.

    A step begins at the last token that was out before it. In a request's last step an engine may accept drafts that
    the reply no longer holds, so its count is cut to the rest of the reply. In other steps that changes nothing.
    """
    steps, mismatches = 0, []
    for record in records:
        assert record.steps_are_exact
        assert record.counters is not None
        accepted = [step.num_accepted for step in record.steps[1:]]
        if record.counters.per_step_accepted is not None:  # SGLang has no such list
            assert list(record.counters.per_step_accepted) == accepted
        tokens = torch.tensor([*record.prompt_token_ids, *record.output_token_ids])
        states, _ = target.run(tokens)
        draft = drafter.read(tokens, states)
        anchor = len(record.prompt_token_ids) + record.steps[0].num_tokens - 1
        for number, step in enumerate(record.steps[1:]):
            assert step.num_accepted is not None
            logits, reply = draft(anchor, k), tokens[anchor + 1 :]
            found, expected = min(step.num_accepted, len(reply)), count_accepted(logits, reply)
            if found != expected:
                best, second = logits[min(found, expected)].topk(2).values.tolist()
                mismatches.append(Mismatch(record.request_id, number, found, expected, best - second))
            anchor += step.num_tokens
            steps += 1
        assert anchor == len(tokens) - 1
    return Replay(steps, mismatches)


class Counted(NamedTuple):
    """What a drafter does on given replies."""

    steps: int
    """Decode steps, each of which verifies drafts."""
    num_tokens: int
    """Of the replies, without those of the prefills."""

    @property
    def acceptance_length(self) -> float:
        return self.num_tokens / self.steps


@torch.inference_mode()
def draft_anew(drafter: Drafter, target: Llama, records: Iterable[RequestRecord], k: int) -> Counted:
    """Returns the steps in which `drafter` and the target would give the recorded replies, whatever steps they took."""
    steps = num_tokens = 0
    for record in records:
        tokens = torch.tensor([*record.prompt_token_ids, *record.output_token_ids])
        states, _ = target.run(tokens)
        draft = drafter.read(tokens, states)
        anchor = len(record.prompt_token_ids)
        num_tokens += len(tokens) - 1 - anchor
        while anchor < len(tokens) - 1:
            anchor += 1 + count_accepted(draft(anchor, k), tokens[anchor + 1 :])
            steps += 1
    return Counted(steps, num_tokens)
