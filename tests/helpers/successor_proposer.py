"""A class of a user's own for spec=custom_class: it drafts what followed the last token where it last occurred."""

from collections.abc import Sequence
from typing import Any


class SuccessorProposer:
    """Drafts K tokens, or none after a token that is new."""

    def __init__(self, vllm_config: Any) -> None:
        self.k: int = vllm_config.speculative_config.num_speculative_tokens

    def load_model(self, *_: Any) -> None:
        """Has none to load."""

    def propose(
        self, sampled_token_ids: list[list[int]], num_tokens_no_spec: Any, token_ids_cpu: Any, slot_mappings: Any = None
    ) -> list[list[int]]:
        """Returns the drafts of each request of the batch; none where nothing was sampled, as in part of a prefill."""
        known = [token_ids_cpu[row, : num_tokens_no_spec[row]].tolist() for row in range(len(sampled_token_ids))]
        return [drafts_after(ids, self.k) if new else [] for ids, new in zip(known, sampled_token_ids, strict=True)]


def drafts_after(token_ids: Sequence[int], k: int) -> list[int]:
    """Returns the K drafts after these tokens; none if the last of them did not occur before."""
    ids = list(token_ids)
    for _ in range(k):
        before = [at for at in range(len(ids) - 1) if ids[at] == ids[-1]]
        if not before:
            return []
        ids.append(ids[before[-1] + 1])
    return ids[len(token_ids) :]
