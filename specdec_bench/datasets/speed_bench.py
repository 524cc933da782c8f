"""SPEED-Bench: `qualitative`, 880 prompts of 11 categories, and `throughput_*`, 1,536 of three entropy tiers each.

Reads the files of nvidia/SPEED-Bench and those that NVIDIA's prepare_data.py writes: `question_id`, `category`,
`sub_category`, `turns`, `source`, `src_id`, `difficulty`, `multiturn`. In the throughput splits the category is the
entropy tier; "k" is thousands of o200k_base tokens, so that the input length depends on the tokenizer.

On the hub many prompts are placeholders, to be filled in from the sets that they were taken from. Nothing here does
that, and no placeholder is ever sent to a model: a file that holds one is refused by the prompts' ids.

Source: arXiv 2604.09557; the format is that of NVIDIA/Model-Optimizer, examples/specdec_bench (datasets/speed.py).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from specdec_bench.config.schema import DatasetConfig, SpeedBenchDataset
from specdec_bench.datasets.rows import label, read_prompts, text_list
from specdec_bench.errors import DatasetError
from specdec_bench.records import Prompt

PLACEHOLDER = "FULL BENCHMARK DATA SHOULD BE FETCHED FROM THE SOURCE USING SPECDEC_BENCH"
QUALITATIVE = (
    *("coding", "humanities", "math", "multilingual", "qa", "rag", "reasoning", "roleplay", "stem", "summarization"),
    "writing",
)
ENTROPY_TIERS = ("low_entropy", "mixed", "high_entropy")
_KEPT = ("sub_category", "difficulty", "source", "src_id")
_MAX_LISTED = 5


def load(config: DatasetConfig) -> Iterator[Prompt]:
    """Yields the prompts of the split; `labels` keep sub_category, difficulty, source and src_id.

    Raises:
        DatasetError: naming file and row; or, at the end, the ids of the prompts that are placeholders.
    """
    assert isinstance(config, SpeedBenchDataset)
    path = split_file(config)
    categories = QUALITATIVE if config.split == "qualitative" else ENTROPY_TIERS
    unresolved: list[str] = []
    num_prompts = 0
    for prompt in read_prompts(path, lambda row, _: _prompt(row, config.split, categories)):
        num_prompts += 1
        if any(PLACEHOLDER in turn for turn in prompt.turns):
            unresolved.append(prompt.prompt_id)
        elif not unresolved:  # after one, the rest is read for its ids only
            yield prompt
    if unresolved:
        more = ", ..." if len(unresolved) > _MAX_LISTED else ""
        raise DatasetError(
            f"{path}: {len(unresolved)} of {num_prompts} prompts are placeholders, not prompts: "
            f"{', '.join(unresolved[:_MAX_LISTED])}{more}; fill them in with NVIDIA's prepare_data.py "
            "(NVIDIA/Model-Optimizer, examples/specdec_bench) and pass what it writes"
        )


def split_file(config: SpeedBenchDataset) -> Path:
    """Returns the split's file: `config.path` itself, or that of the split in the folder.

    Raises:
        DatasetError: there is none, or several.
    """
    folder = f"{config.split}/*.parquet, {config.split}.parquet or {config.split}.jsonl"
    if config.path is None:
        raise DatasetError(
            f"dataset=speed_bench: needs its file; pass dataset.path=FILE, or a folder that holds {folder}"
        )
    place = Path(config.path).expanduser()
    if place.is_file():
        return place
    found = [*sorted(place.glob(f"{config.split}/*.parquet"))]
    found += [file for suffix in ("parquet", "jsonl") if (file := place / f"{config.split}.{suffix}").is_file()]
    if not found:
        raise DatasetError(f"dataset.path={config.path}: no such file, nor a folder that holds {folder}")
    if len(found) > 1:
        names = ", ".join(str(file.relative_to(place)) for file in found)
        raise DatasetError(f"dataset.path={config.path}: holds {names}; pass the one to take")
    return found[0]


def _prompt(row: dict[str, Any], split: str, categories: tuple[str, ...]) -> Prompt:
    missing = [key for key in ("question_id", "category", "turns") if row.get(key) is None]
    if missing:
        raise ValueError(f"no SPEED-Bench prompt: lacks {', '.join(missing)} (has {', '.join(row) or 'nothing'})")
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
