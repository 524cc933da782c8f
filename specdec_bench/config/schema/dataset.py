"""Sources of prompts and what is selected from them."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from omegaconf import MISSING

from specdec_bench.config.schema.ranges import CONTEXT, CONVERSATIONS, SEED, Bounded, Range, require


@dataclass(kw_only=True)
class DatasetConfig(Bounded):
    """What is asked of the model."""

    GROUP: ClassVar[str] = "dataset"

    name: str = MISSING
    path: str | None = None
    """The file, where the dataset does not ship with the project."""
    num_prompts: Annotated[int | None, CONVERSATIONS] = None
    """A subset of that many conversations, spread over the categories, drawn with `seed`; null takes all."""
    num_turns: Annotated[int | None, Range(1, 65_536, "no conversation has as many")] = None
    """At most that many turns of each conversation; null takes all."""
    categories: list[str] | None = None
    """Only conversations of these categories; null takes all."""
    min_input_tokens: Annotated[int | None, CONTEXT] = None
    """Only conversations whose first request is at least that long, chat template included."""
    max_input_tokens: Annotated[int | None, CONTEXT] = None
    """Only conversations whose first request is at most that long, chat template included."""

    def __post_init__(self) -> None:
        Bounded.__post_init__(self)
        if self.categories is not None:
            require(len(self.categories) > 0, "dataset.categories", "[]", "name at least one, or null for all")
        least, most = self.min_input_tokens, self.max_input_tokens
        if least is not None and most is not None:
            require(least <= most, "dataset.min_input_tokens", least, f"must not exceed max_input_tokens={most}")


@dataclass(kw_only=True)
class DemoDataset(DatasetConfig):
    """The project's own prompts, suited to the bundled tiny model."""

    name: str = "demo"


@dataclass(kw_only=True)
class MTBenchDataset(DatasetConfig):
    """MT-Bench: 80 questions of two turns in 8 categories."""

    name: str = "mt_bench"


@dataclass(kw_only=True)
class SpecBenchDataset(DatasetConfig):
    """Spec-Bench: 480 questions in the six groups that it reports."""

    name: str = "spec_bench"
    grouped: bool = True
    """Takes MT-Bench's eight categories for one, `mt_bench`, as Spec-Bench's own evaluation does; false reports all
    thirteen. The prompts archive the file's category either way."""


@dataclass(kw_only=True)
class RandomDataset(DatasetConfig):
    """Token ids drawn uniformly: for exact input lengths. Acceptance on random text says little of real use."""

    name: str = "random"
    num_prompts: Annotated[int | None, Range(1, 1_000_000, "prompts are held in memory")] = 128
    """How many are made."""
    seed: Annotated[int, SEED] = 0
    """Of lengths and ids; the YAML gives it the experiment's."""
    input_tokens: Annotated[int, CONTEXT] = 1024
    """The length of every prompt; with `length_distribution` uniform its middle, with lognormal its median."""
    length_distribution: str = "fixed"
    """fixed, uniform or lognormal."""
    length_spread: Annotated[float, Range(0, 4, "at 4 lengths differ by a factor of a million")] = 0.5
    """uniform: lengths lie within input_tokens x (1 - spread) and x (1 + spread), both included; lognormal: the
    standard deviation of the length's logarithm. Without effect on fixed."""
    max_length: Annotated[int | None, CONTEXT] = None
    """Lognormal lengths beyond it are cut to it; null cuts none."""

    def __post_init__(self) -> None:
        DatasetConfig.__post_init__(self)
        require(self.num_prompts is not None, "dataset.num_prompts", None, "say how many to make")
        for key, value in (("path", self.path), ("categories", self.categories)):
            require(value is None, f"dataset.{key}", value, "dataset=random has none; leave it null")
        known = ("fixed", "uniform", "lognormal")
        kind, spread = self.length_distribution, self.length_spread
        require(kind in known, "dataset.length_distribution", kind, f"use one of {', '.join(known)}")
        require(kind != "uniform" or spread < 1, "dataset.length_spread", spread, "must be below 1 for uniform")


@dataclass(kw_only=True)
class SpeedBenchDataset(DatasetConfig):
    """SPEED-Bench: one of its splits."""

    name: str = "speed_bench"
    split: str = "qualitative"
    """qualitative (11 categories), or throughput_1k, _2k, _8k, _16k, _32k (three entropy tiers)."""

    def __post_init__(self) -> None:
        DatasetConfig.__post_init__(self)
        known = ("qualitative", *(f"throughput_{length}k" for length in (1, 2, 8, 16, 32)))
        require(self.split in known, "dataset.split", self.split, f"use one of {', '.join(known)}")


@dataclass(kw_only=True)
class ShareGPTDataset(DatasetConfig):
    """Conversations of which the human's messages are the turns."""

    name: str = "sharegpt"


@dataclass(kw_only=True)
class HFDataset(DatasetConfig):
    """Any dataset of the Hugging Face hub, or local files; which column is what is yours to say."""

    name: str = "hf"
    id: str | None = None
    """owner/name on the hub; or give `path`, a file or a folder of parquet or JSON files."""
    subset: str | None = None
    """The dataset's configuration, where it has several."""
    split: str = "train"
    revision: str | None = None
    """Commit; pin it for runs that are to be archived."""
    prompt_column: str | None = None
    """Of the only turn, a string. One of this and the next two is needed."""
    turns_column: str | None = None
    """Of all turns, a list of strings."""
    conversations_column: str | None = None
    """Of all messages, a list of {from, value} or {role, content}."""
    id_column: str | None = None
    """null numbers the rows."""
    category_column: str | None = None
    system_column: str | None = None

    def __post_init__(self) -> None:
        DatasetConfig.__post_init__(self)
        given = [c for c in (self.prompt_column, self.turns_column, self.conversations_column) if c is not None]
        fix = "give one of prompt_column, turns_column and conversations_column"
        require(len(given) <= 1, "dataset", ", ".join(given), fix)


@dataclass(kw_only=True)
class PreparedDataset(DatasetConfig):
    """A file that `specdec-bench prepare` wrote."""

    name: str = "prepared"


@dataclass(kw_only=True)
class JsonlDataset(DatasetConfig):
    """One conversation a line."""

    name: str = "jsonl"


OPTIONS: dict[str, type] = {
    "demo": DemoDataset,
    "mt_bench": MTBenchDataset,
    "spec_bench": SpecBenchDataset,
    "speed_bench": SpeedBenchDataset,
    "random": RandomDataset,
    "sharegpt": ShareGPTDataset,
    "hf": HFDataset,
    "prepared": PreparedDataset,
    "jsonl": JsonlDataset,
}
"""The dataclass behind each option of the group."""
