"""The bundled drafters, recomputed from the files that are shipped: they accept what their acceptance.json says.

training/ wrote that file on a GPU in float32. Here other code, in float64 on a CPU, goes through the same 20 prompts
and 64 tokens. That is the same experiment and no second sample, so the counts themselves must agree, which is stricter
than the stated 95% interval. Only a draft whose two best logits all but tie may differ. float64 leaves no such ties
between two CPUs.
"""

import json
import math
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from tests.helpers.draft_steps import count_accepted
from tests.helpers.drafters_in_torch import (
    DRAFTERS,
    Dflash,
    Drafter,
    Eagle,
    Medusa,
    Mtp,
)
from tests.helpers.engine_runs import TARGET, demo_prompts, raw_model
from tests.helpers.llama_in_torch import TINY, Checkpoint, Llama, States, read_checkpoint

PROMPTS, MAX_NEW_TOKENS, LONGEST_DRAFT = 20, 64, 7
TIES = 2
"""Steps by which a count may be off."""
WITHOUT_ACCEPTANCE = ("draft", "eagle3")
WITH_ACCEPTANCE = tuple(sorted(DRAFTERS.keys() - set(WITHOUT_ACCEPTANCE)))


class Reply(NamedTuple):
    """A prompt and what the target writes after it, which its end does not end."""

    tokens: Tensor
    num_prompt_tokens: int
    states: States


class Replies(NamedTuple):
    """All of them."""

    target: Llama
    replies: list[Reply]
    end: int


class Counts(NamedTuple):
    """Of greedy drafting and verifying."""

    steps: int
    accepted_by_position: list[int]


@pytest.fixture(scope="module")
def replies() -> Replies:
    """The target's replies, a few tokens beyond their end or the limit: the last step's drafts are verified too."""
    prompts, (end,) = demo_prompts(PROMPTS)
    target = Llama(read_checkpoint("target"))
    with torch.inference_mode():
        return Replies(target, [reply(target, prompt, end) for prompt in prompts], end)


def reply(target: Llama, prompt: list[int], end: int) -> Reply:
    new, past = torch.tensor(prompt), None
    tokens, length = new, len(prompt) + MAX_NEW_TOKENS + LONGEST_DRAFT
    while len(tokens) < length:
        states, past = target.run(new, past)
        new = target.logits(states.normed[-1:]).argmax(-1)
        tokens = torch.cat([tokens, new])
        if new == end:
            length = min(length, len(tokens) + LONGEST_DRAFT)
    return Reply(tokens, len(prompt), target.run(tokens)[0])


@torch.inference_mode()
def accept(drafter: Drafter, replies: Replies, k: int) -> Counts:
    """Returns the counts of all replies. A step that passes the end or the limit counts all that it accepted."""
    steps, by_position = 0, [0] * k
    for tokens, num_prompt_tokens, states in replies.replies:
        draft, anchor = drafter.read(tokens, states), num_prompt_tokens
        while tokens[anchor] != replies.end and anchor + 1 - num_prompt_tokens < MAX_NEW_TOKENS:
            accepted = count_accepted(draft(anchor, k), tokens[anchor + 1 :])
            by_position[:accepted] = [count + 1 for count in by_position[:accepted]]
            new = tokens[anchor + 1 : anchor + accepted + 2].tolist()
            anchor += new.index(replies.end) + 1 if replies.end in new else len(new)
            steps += 1
    return Counts(steps, by_position)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Returns the 95% score interval of a share."""
    z = 1.959964
    share, scale = successes / trials, 1 + z * z / trials
    half = z * math.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    return (share + z * z / (2 * trials) - half) / scale, (share + z * z / (2 * trials) + half) / scale


def stated(name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((TINY / name / "acceptance.json").read_text(encoding="utf-8"))
    return read


def largest_difference(found: Counts, recorded: dict[str, Any]) -> int:
    """Returns how far the steps, or the steps that accepted some draft position, are from the stated number."""
    trained = recorded["trained"]
    expected = [trained["steps"], *trained["accepted_by_position"]]
    counts = [found.steps, *found.accepted_by_position]
    return max(abs(one - other) for one, other in zip(counts, expected, strict=True))


def test_the_target_is_what_transformers_makes_of_the_same_file(replies: Replies) -> None:
    model = raw_model(TARGET, "float64")
    tokens, _, states = replies.replies[0]
    with torch.inference_mode():
        expected = model(input_ids=tokens[None], use_cache=False).logits[0]
        assert torch.allclose(
            replies.target.logits(states.normed), expected, rtol=0, atol=1e-4
        )  # its rotary angles are float32


@pytest.mark.parametrize("name", WITH_ACCEPTANCE)
def test_acceptance_is_what_its_file_states(replies: Replies, name: str) -> None:
    recorded = stated(name)
    assert (recorded["prompts"], recorded["max_new_tokens"]) == (PROMPTS, MAX_NEW_TOKENS)
    found = accept(DRAFTERS[name](read_checkpoint(name), replies.target), replies, recorded["draft_length"])
    lower, upper = recorded["trained"]["interval_95"]
    assert lower <= found.accepted_by_position[0] / found.steps <= upper
    assert largest_difference(found, recorded) <= TIES, found


@pytest.mark.parametrize("name", WITHOUT_ACCEPTANCE)
def test_acceptance_is_above_that_of_random_weights(replies: Replies, name: str) -> None:
    """The 95% intervals of the two shares, on five prompts, do not meet."""
    few = replies._replace(replies=replies.replies[::4])
    checkpoint = read_checkpoint(name)
    generator = torch.Generator().manual_seed(0)
    random = {
        key: torch.randn(x.shape, generator=generator, dtype=x.dtype) * x.shape[-1] ** -0.5 if x.ndim > 1 else x
        for key, x in checkpoint.tensors.items()
    }
    trained, untrained = (
        accept(DRAFTERS[name](Checkpoint(checkpoint.config, tensors), few.target), few, 3)
        for tensors in (checkpoint.tensors, random)
    )
    lower, _ = wilson(trained.accepted_by_position[0], trained.steps)
    _, upper = wilson(untrained.accepted_by_position[0], untrained.steps)
    assert lower > upper, (trained, untrained)


class EagleOfUnnormedStates(Eagle):
    def given(self, states: States) -> Tensor:
        return states.outputs[-1]


class MtpOfNormedStates(Mtp):
    def given(self, states: States) -> Tensor:
        return states.normed


class MedusaOneRowEarly(Medusa):
    rows_before_anchor = 2


class DflashOfLaterLayers(Dflash):
    def given(self, states: States) -> Tensor:
        return super().given(States(outputs=states.outputs[1:], normed=states.normed))


@pytest.mark.parametrize(
    ("name", "mistaken"),
    [
        ("eagle", EagleOfUnnormedStates),
        ("mtp", MtpOfNormedStates),
        ("medusa", MedusaOneRowEarly),
        ("dflash", DflashOfLaterLayers),
    ],
)
def test_a_wrong_norm_or_offset_shows(replies: Replies, name: str, mistaken: type[Drafter]) -> None:
    """The counts are others. MTP's acceptance stays nearly as high with the wrong states, which no interval shows."""
    recorded = stated(name)
    found = accept(mistaken(read_checkpoint(name), replies.target), replies, recorded["draft_length"])
    assert largest_difference(found, recorded) > TIES, found
