"""Warnings on how a run's checkpoints affect its metrics: mismatched lengths and vocabularies, refused turns."""

from collections.abc import Sequence

from msgspec import UNSET

from specdec_bench.errors import abbreviated
from specdec_bench.records.labels import draft_lengths_of, method_of
from specdec_bench.records.manifest import Manifest
from specdec_bench.records.options import option
from specdec_bench.records.request import RequestRecord

TRAINED_FOR_PARALLEL = {"pard": "a PARD drafter", "peagle": "a P-EAGLE head"}
"""Kinds of drafters that are made for spec.parallel_drafting=true."""


class DraftReach:
    """Counts the decode steps that began where the draft has no positions left for its drafts.

    An engine that goes on from there drafts nothing, or fills the step with worthless drafts (vLLM 0.32: token 0). It
    counts those as proposed, so its counts do not reveal them.
    """

    def __init__(self, manifest: Manifest | None) -> None:
        draft = manifest.checkpoints.get("draft") if manifest is not None else None
        stated = draft.facts.context_length if draft is not None and draft.facts is not UNSET else None
        self.positions = stated.value if stated is not None and isinstance(stated.value, int) else None
        """None if there is no draft, if it states no length, or if the archive is older than this field."""
        self._draft_length = 0 if manifest is None else _least_draft_length(manifest)
        self.num_requests = self.num_steps = self.num_beyond = 0
        """Requests that got that far; decode steps of all requests; decode steps that began there."""

    def add(self, record: RequestRecord) -> None:
        """Counts the steps of a finished request."""
        if self.positions is None:
            return
        length, num_beyond = len(record.prompt_token_ids), 0
        for index, step in enumerate(record.steps):
            if index:  # the first is the prefill
                self.num_steps += 1
                num_beyond += length + self._draft_length > self.positions
            length += step.num_tokens
        self.num_beyond += num_beyond
        self.num_requests += bool(num_beyond)


def _least_draft_length(manifest: Manifest) -> int:
    """Returns the smallest number of drafts of a step that the experiment asks for, so that the count is a bound."""
    lengths = draft_lengths_of(manifest.config)
    return min(lengths) if lengths is not None else method_of(manifest.config)[1] or 0


def checkpoint_warnings(manifest: Manifest, reach: DraftReach, refused_prompts: Sequence[str]) -> list[str]:
    """Returns the warnings, one line each.

    Args:
        manifest: the run's manifest.
        reach: the counts of its finished requests.
        refused_prompts: ids of conversations with a later turn that could not be encoded.
    """
    warnings = []
    if reach.num_beyond:
        warnings.append(
            f"the draft has positions for {reach.positions} tokens, and {reach.num_requests} requests outgrew them: "
            f"at least {reach.num_beyond} of {reach.num_steps} decode steps began where it cannot draft, which lowers "
            "acceptance"
        )
    draft = manifest.checkpoints.get("draft")
    if draft is not None and (num_differing := draft.vocabulary_differences):
        warnings.append(
            f"{num_differing} entries of the draft's vocabulary differ from the target's: where such tokens are "
            "drafted, acceptance is lower than the draft's own"
        )
    drafter = None if draft is None or draft.facts is UNSET else draft.facts.drafter
    is_parallel = option(manifest.config, "spec", "parallel_drafting")
    if drafter is not None and drafter.kind in TRAINED_FOR_PARALLEL and not is_parallel:
        warnings.append(
            f"the draft is {TRAINED_FOR_PARALLEL[drafter.kind]} ({drafter.sign}), which was trained to draft all "
            "tokens in one pass; here it drafted them one by one. Pass spec.parallel_drafting=true where the engine "
            "has it"
        )
    if refused_prompts:
        warnings.append(
            "the chat template or the tokenizer does not take a later turn of "
            f"{abbreviated(refused_prompts)} ({len(refused_prompts)} in all): these conversations FAILED there"
        )
    return warnings
