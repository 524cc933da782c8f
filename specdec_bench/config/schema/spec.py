"""Methods of drafting."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from omegaconf import MISSING

from specdec_bench.config.schema.model import DraftCheckpoint
from specdec_bench.config.schema.ranges import (
    CONCURRENCY,
    DRAFT_LENGTH,
    DRAFT_LENGTH_OR_NONE,
    NGRAM,
    PROBABILITY,
    TIMES_OR_NONE,
    TREE_TOKENS,
    Bounded,
    Range,
    Rows,
    require,
)

BATCH_SIZES = Rows((("from", CONCURRENCY), ("to", CONCURRENCY), ("K", DRAFT_LENGTH_OR_NONE)))
"""Bounds of `draft_length_by_batch_size`."""


@dataclass(kw_only=True)
class SpecConfig(Bounded):
    """How tokens are drafted."""

    GROUP: ClassVar[str] = "spec"

    name: str = MISSING
    """The method's name in the method table; fixed by the chosen YAML."""


@dataclass(kw_only=True)
class NoSpec(SpecConfig):
    """Plain autoregressive decoding: the baseline."""

    name: str = "none"


@dataclass(kw_only=True)
class DraftingSpec(SpecConfig):
    """A method that drafts."""

    draft_length: Annotated[int, DRAFT_LENGTH] = 3
    """K: tokens proposed for each verify step; of a tree, its depth, so that at most K are accepted."""
    draft_length_by_batch_size: Annotated[list[list[int]] | None, BATCH_SIZES] = None
    """Rows of [from, to, K]: the draft length while from to to requests, both included, are in the batch. The first
    row begins at 1, each other one after the end of the one before; larger batches have the last row's K. A K of 0
    drafts nothing. The largest K is draft_length. Null drafts draft_length always."""
    topk: Annotated[int | None, DRAFT_LENGTH] = None
    """Branches at each position of a draft tree, where the engine has trees (SGLang); null drafts a chain."""
    num_draft_tokens: Annotated[int | None, TREE_TOKENS] = None
    """Tokens of the tree that are verified in one step, its root included; null is draft_length + 1, a chain."""

    def __post_init__(self) -> None:
        Bounded.__post_init__(self)
        self._check_batch_sizes()
        branches, key, verified = self.topk or 1, "spec.num_draft_tokens", self.num_draft_tokens
        if verified is None:
            fix = "say how many tokens of the tree are verified, with spec.num_draft_tokens"
            require(branches == 1, "spec.topk", self.topk, fix)
            return
        least, most = self.draft_length + 1, sum(branches**depth for depth in range(self.draft_length + 1))
        require(verified >= least, key, verified, f"must be at least spec.draft_length + 1 = {least}")
        fix = f"a chain of spec.draft_length={self.draft_length} has {least} with its root; set spec.topk for a tree"
        require(verified == least or branches > 1, key, verified, fix)
        fix = f"a tree of spec.draft_length={self.draft_length} and spec.topk={branches} has at most {most}"
        require(verified <= most, key, verified, fix)

    def _check_batch_sizes(self) -> None:
        rows, key = self.draft_length_by_batch_size, "spec.draft_length_by_batch_size"
        if rows is None:
            return
        start = 1
        for row in rows:
            first, last, _ = row
            require(first == start, key, row, f"must begin at {start}: rows leave no batch size out and none twice")
            require(last >= first, key, row, f"must end at {first} or later")
            start = last + 1
        lengths = {length for *_, length in rows}
        fix = f"has one draft length; leave it null and set spec.draft_length={rows[0][2]}"
        require(len(lengths) > 1, key, rows, fix)
        fix = f"must be the largest K of {key}; set spec.draft_length={max(lengths)}"
        require(self.draft_length == max(lengths), "spec.draft_length", self.draft_length, fix)


@dataclass(kw_only=True)
class NgramSpec(DraftingSpec):
    """Prompt lookup: drafts what followed the last n-gram earlier in the context."""

    name: str = "ngram"
    ngram_min: Annotated[int, NGRAM] = 1
    """Shortest n-gram that is looked up."""
    ngram_max: Annotated[int, NGRAM] = 3
    """Longest n-gram that is looked up; the longest match wins."""

    def __post_init__(self) -> None:
        DraftingSpec.__post_init__(self)
        require(
            self.ngram_max >= self.ngram_min,
            "spec.ngram_max",
            self.ngram_max,
            f"must be at least spec.ngram_min={self.ngram_min}",
        )


@dataclass(kw_only=True)
class NgramGPUSpec(NgramSpec):
    """The same lookup, for all requests at once on the accelerator."""

    name: str = "ngram_gpu"


@dataclass(kw_only=True)
class SuffixSpec(DraftingSpec):
    """Suffix decoding: drafts what most often followed the longest matching suffix, as far as that is likely.

    Source: arXiv 2411.04975.
    """

    name: str = "suffix"
    max_tree_depth: Annotated[int, NGRAM] = 24
    """Longest match and drafts together, in tokens."""
    max_spec_factor: Annotated[float, Range(0, 1024, "no draft is longer", excludes_least=True)] = 1.0
    """Drafts at most this times the length of the match."""
    min_token_prob: Annotated[float, PROBABILITY] = 0.1
    """Drafts only what is at least this likely, by counts."""
    max_cached_requests: Annotated[int, TIMES_OR_NONE] = 0
    """Earlier responses that are looked up too; 0 keeps requests independent of one another."""


@dataclass(kw_only=True)
class CustomClassSpec(DraftingSpec):
    """A class of the user's own drafts: at most K tokens, or none."""

    name: str = "custom_class"
    proposer: str | None = None
    """The class, as module.Class. Its module lies in the working folder, on PYTHONPATH or in an installed package."""

    def __post_init__(self) -> None:
        DraftingSpec.__post_init__(self)
        module, _, name = (self.proposer or "").rpartition(".")
        is_name = bool(module) and all(part.isidentifier() for part in (*module.split("."), name))
        require(is_name, "spec.proposer", self.proposer, "name a class, as module.Class")


@dataclass(kw_only=True)
class CheckpointSpec(DraftingSpec):
    """A method whose drafter has weights of its own."""

    draft: DraftCheckpoint = field(default_factory=DraftCheckpoint)
    """The draft's checkpoint; a null path takes the model's known draft."""

    @property
    def draft_key(self) -> str:
        """The key of `model.drafts` that a null path stands for: parallel drafting needs drafters of its own."""
        return f"{self.name}_parallel" if getattr(self, "parallel_drafting", False) else self.name


@dataclass(kw_only=True)
class DraftModelSpec(CheckpointSpec):
    """A smaller model with the target's vocabulary drafts."""

    name: str = "draft_model"
    parallel_drafting: bool = False
    """All K tokens in one pass, by a draft that was trained for it (PARD, arXiv 2504.18583)."""


@dataclass(kw_only=True)
class EagleSpec(CheckpointSpec):
    """A head that drafts from the target's last hidden state. Source: arXiv 2401.15077."""

    name: str = "eagle"


@dataclass(kw_only=True)
class Eagle3Spec(CheckpointSpec):
    """A head that drafts from hidden states of several of the target's layers. Source: arXiv 2503.01840."""

    name: str = "eagle3"
    parallel_drafting: bool = False
    """All K tokens in one pass, by a head that was trained for it (P-EAGLE)."""


@dataclass(kw_only=True)
class MTPSpec(CheckpointSpec):
    """The target's own multi-token-prediction layers; `draft` only where they are a checkpoint of their own."""

    name: str = "mtp"


@dataclass(kw_only=True)
class MedusaSpec(CheckpointSpec):
    """One head for each draft position. Source: arXiv 2401.10774."""

    name: str = "medusa"


@dataclass(kw_only=True)
class DFlashSpec(CheckpointSpec):
    """A block-diffusion drafter: all K tokens in one pass. Source: arXiv 2602.06036."""

    name: str = "dflash"


@dataclass(kw_only=True)
class DSparkSpec(CheckpointSpec):
    """A block drafter whose drafts depend on one another through a small head. Source: arXiv 2607.05147."""

    name: str = "dspark"


OPTIONS: dict[str, type] = {
    "none": NoSpec,
    "ngram": NgramSpec,
    "ngram_gpu": NgramGPUSpec,
    "suffix": SuffixSpec,
    "custom_class": CustomClassSpec,
    "draft_model": DraftModelSpec,
    "eagle": EagleSpec,
    "eagle3": Eagle3Spec,
    "mtp": MTPSpec,
    "medusa": MedusaSpec,
    "dflash": DFlashSpec,
    "dspark": DSparkSpec,
}
"""The dataclass behind each option of the group."""
