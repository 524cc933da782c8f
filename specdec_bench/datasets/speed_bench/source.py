"""SPEED-Bench: `qualitative`, 880 prompts of 11 categories, and `throughput_*`, 1,536 of three entropy tiers each.

Reads the files of nvidia/SPEED-Bench and those that NVIDIA's prepare_data.py writes: `question_id`, `category`,
`sub_category`, `turns`, `source`, `src_id`, `difficulty`, `multiturn`. In the throughput splits the category is the
entropy tier; "k" is thousands of o200k_base tokens, so that the input length depends on the tokenizer.

On the hub many prompts are placeholders, to be made from the sets that they were taken from. `resolve` does that, for
`specdec-bench prepare`. No placeholder is ever sent to a model: a file that holds one is refused by the prompts' ids.

Source: arXiv 2604.09557; the format is that of NVIDIA/Model-Optimizer, examples/specdec_bench (datasets/speed.py).
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from specdec_bench import hub
from specdec_bench.config.schema.dataset import DatasetConfig, SpeedBenchDataset
from specdec_bench.datasets import content
from specdec_bench.datasets.rows import label, read_prompts, read_rows, text_list
from specdec_bench.datasets.speed_bench.resolver import Resolver, is_placeholder
from specdec_bench.errors import DatasetError, abbreviated
from specdec_bench.records.request import Prompt
from specdec_bench.records.unused import Unused

HUB_REPOSITORY = "nvidia/SPEED-Bench"
HUB_REVISION = "487aa718444e816458d1a0a52bfce7a454285cf4"
QUALITATIVE = (
    *("coding", "humanities", "math", "multilingual", "qa", "rag", "reasoning", "roleplay", "stem", "summarization"),
    "writing",
)
ENTROPY_TIERS = ("low_entropy", "mixed", "high_entropy")
_KEPT = ("sub_category", "difficulty", "source", "src_id")
_FIELDS = ("question_id", "category", "turns")


def load(config: DatasetConfig, unused: Unused) -> Iterator[tuple[int, Prompt]]:
    """Yields row numbers and the prompts of the split; `labels` keep sub_category, difficulty, source and src_id.

    Raises:
        DatasetError: naming file and row; or, at the end, the ids of the prompts that are placeholders.
    """
    assert isinstance(config, SpeedBenchDataset)
    path = split_file(config)
    unresolved: list[str] = []

    def convert(row: dict[str, Any], number: int) -> Prompt:
        if is_placeholder(row):
            unresolved.append(str(row.get("question_id")))
        unused.add_fields(row, (*_FIELDS, *_KEPT), number)
        return _prompt(row, config.split)

    yield from _until_one_is_refused(read_prompts(path, convert), unresolved)
    if unresolved:
        raise DatasetError(
            f"{path}: {len(unresolved)} prompts are placeholders, not prompts: {abbreviated(unresolved)}; "
            f"make them with specdec-bench prepare speed_bench dataset.path={config.path} dataset.split={config.split} "
            "--accept-license, and run dataset=prepared"
        )


def resolve(
    config: SpeedBenchDataset, unused: Unused, on_load: Callable[[str], None] = lambda _: None
) -> tuple[Iterator[tuple[int, Prompt]], dict[str, str]]:
    """Returns the split's prompts with placeholders resolved, and the version of each source.

    Args:
        config: without a path the split is fetched from the hub, at a pinned revision.
        unused: notes the fields that nothing reads.
        on_load: is told what is being loaded.

    Raises:
        DatasetError: naming what cannot be had; or, as the prompts are read, file and row, or the ids of those that
            could not be made.
    """
    path = source_file(config)
    num_tokens = None if config.split == "qualitative" else 1000 * int(config.split.removeprefix("throughput_")[:-1])
    resolver = Resolver((row for _, row in read_rows(path)), num_tokens, on_load)
    return _resolved(path, config.split, resolver, unused), resolver.versions()


def _resolved(path: Path, split: str, resolver: Resolver, unused: Unused) -> Iterator[tuple[int, Prompt]]:
    unresolved: list[str] = []
    reasons: list[str] = []

    def convert(row: dict[str, Any], number: int) -> Prompt:
        unused.add_fields(row, (*_FIELDS, *_KEPT), number)
        if is_placeholder(row):
            try:
                made = row | {"turns": resolver.turns(row)}
                text_list(made, "turns")
                if is_placeholder(made):
                    raise ValueError(f"src_id={row.get('src_id')}: is a placeholder still")
                row = made
            except ValueError as error:
                unresolved.append(str(row.get("question_id")))
                reasons.append(str(error))
        return _prompt(row, split)

    yield from _until_one_is_refused(read_prompts(path, convert), unresolved)
    if unresolved:
        raise DatasetError(
            f"{path}: {len(unresolved)} prompts cannot be made: {abbreviated(unresolved)}; "
            f"the first because {reasons[0]}"
        )


def _until_one_is_refused(prompts: Iterator[tuple[int, Prompt]], refused: list[str]) -> Iterator[tuple[int, Prompt]]:
    """Yields prompts until `refused` is not empty; the rest is read for its ids only."""
    for numbered in prompts:
        if not refused:
            yield numbered


def source_file(config: SpeedBenchDataset) -> Path:
    """Returns the split's file: that of `config.path`, or the hub's at the pinned revision.

    Raises:
        DatasetError: there is none.
    """
    if config.path is not None:
        return split_file(config)
    return hub.fetch(HUB_REPOSITORY, HUB_REVISION, hub_name(config.split), "pass dataset.path=FILE or its folder")


def hub_name(split: str) -> str:
    """Returns the name of a split's file in the hub's repository."""
    return f"{split}/test-00000-of-00001.parquet"


def split_file(config: SpeedBenchDataset) -> Path:
    """Returns the split's file: `config.path` itself, or that of the split in the folder.

    Raises:
        DatasetError: there is none, or several.
    """
    folder = f"{config.split}/*.parquet, {config.split}.parquet or {config.split}.jsonl"
    if config.path is None:
        raise DatasetError(
            f"dataset=speed_bench: needs its file; pass dataset.path=FILE, or a folder that holds {folder}; or let "
            "specdec-bench prepare speed_bench fetch it and run dataset=prepared"
        )
    place = content.require_file(config.path, allows_folder=True)
    if place.is_file():
        return place
    found = [*sorted(place.glob(f"{config.split}/*.parquet"))]
    found += [file for suffix in ("parquet", "jsonl") if (file := place / f"{config.split}.{suffix}").is_file()]
    if not found:
        raise DatasetError(f"dataset.path={config.path}: neither a file nor a folder that holds {folder}")
    if len(found) > 1:
        names = ", ".join(str(file.relative_to(place)) for file in found)
        raise DatasetError(f"dataset.path={config.path}: holds {names}; pass the one to take")
    return found[0]


def _prompt(row: dict[str, Any], split: str) -> Prompt:
    categories = QUALITATIVE if split == "qualitative" else ENTROPY_TIERS
    missing = [key for key in _FIELDS if row.get(key) in (None, "")]
    if missing:
        raise ValueError(f"not a SPEED-Bench prompt: lacks {', '.join(missing)} (has {', '.join(row) or 'nothing'})")
    category = label(row, "category", "")
    if category not in categories:
        raise ValueError(
            f"category={category!r}: none of dataset.split={split}'s, which are {', '.join(categories)}; "
            "is it another split?"
        )
    return Prompt(
        prompt_id=label(row, "question_id", ""),
        category=category,
        turns=text_list(row, "turns"),
        labels={key: label(row, key, "") for key in _KEPT if row.get(key) is not None},
    )
