"""What a run's checkpoints make of its metrics: lengths and vocabularies that do not fit, turns that were refused."""

from collections.abc import Sequence
from typing import Any

from specdec_bench.errors import listed


def checkpoint_warnings(
    checkpoints: dict[str, Any],
    lengths: Sequence[int],
    draft_length: int,
    pooled: dict[str, Any],
    refused_prompts: Sequence[str],
) -> list[str]:
    """Returns a line for each.

    Args:
        checkpoints: the manifest's, by role; without facts in archives of before.
        lengths: tokens of each finished request, prompt and output together.
        draft_length: K.
        pooled: acceptance over all requests, with `decode_steps` and `verify_steps`.
        refused_prompts: ids of conversations of which a later turn could not be encoded.
    """
    warnings = []
    draft = checkpoints.get("draft", {})
    positions = (draft.get("facts", {}).get("context_length") or {}).get("value")
    if positions is not None and (num_beyond := sum(length + draft_length > positions for length in lengths)):
        decode_steps, verify_steps = pooled["decode_steps"], pooled["verify_steps"]
        counted = (
            "how many steps drafted nothing is not known"
            if decode_steps is None or verify_steps is None
            else f"{decode_steps - verify_steps} of {decode_steps} decode steps drafted nothing"
        )
        warnings.append(
            f"the draft has positions for {positions} tokens, and {num_beyond} of {len(lengths)} requests came within "
            f"{draft_length} tokens of them or went beyond: {counted}"
        )
    if num_differing := draft.get("vocabulary_differences"):
        warnings.append(
            f"{num_differing} entries of the draft's vocabulary differ from the target's: where such tokens are "
            "drafted, acceptance is lower than the draft's own"
        )
    if refused_prompts:
        warnings.append(
            "the chat template or the tokenizer does not take a later turn of "
            f"{listed(refused_prompts)} ({len(refused_prompts)} in all): these conversations FAILED there"
        )
    return warnings
