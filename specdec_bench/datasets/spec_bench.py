"""Spec-Bench, 480 questions: MT-Bench's 80 of two turns, and 80 of one turn for each of five tasks.

The file is question.jsonl of hemingkx/Spec-Bench, data/spec_bench (`question_id`, `category`, `turns`). Its own
evaluation reports six groups, in which MT-Bench's eight categories are one.

Source: Xia et al., "Unlocking Efficiency in Large Language Model Inference", arXiv 2401.07851; the groups are those
of hemingkx/Spec-Bench, evaluation/speed.py (`mt_bench_list` and `get_single_speedup`), read at 132ba4c.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from specdec_bench.config.schema.dataset import DatasetConfig, SpecBenchDataset
from specdec_bench.datasets.rows import label, read_prompts, required_path, text_list
from specdec_bench.records.request import Prompt
from specdec_bench.records.unused import Unused

MT_BENCH = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")
"""The categories that are reported as the group mt_bench."""
TASKS = ("translation", "summarization", "qa", "math_reasoning", "rag")
_FIELDS = ("question_id", "category", "turns")


def load(config: DatasetConfig, unused: Unused) -> Iterator[tuple[int, Prompt]]:
    """Yields row numbers and the questions of `config.path`, their category the group unless `config.grouped` is false.

    The file's own category is kept in `labels["raw_category"]`.

    Raises:
        DatasetError: naming file and line.
    """
    assert isinstance(config, SpecBenchDataset)
    is_grouped = config.grouped

    def convert(row: dict[str, Any], number: int) -> Prompt:
        prompt = _prompt(row)
        unused.add_fields(row, _FIELDS, number)
        in_group = is_grouped and prompt.category in MT_BENCH
        return msgspec.structs.replace(prompt, category="mt_bench") if in_group else prompt

    return read_prompts(required_path(config), convert)


def _prompt(row: dict[str, Any]) -> Prompt:
    missing = [key for key in _FIELDS if row.get(key) in (None, "")]
    if missing:
        raise ValueError(f"not a Spec-Bench question: lacks {', '.join(missing)} (has {', '.join(row) or 'nothing'})")
    category = label(row, "category", "")
    if category not in (*MT_BENCH, *TASKS):
        raise ValueError(f"category={category!r}: none of Spec-Bench's, which are {', '.join((*MT_BENCH, *TASKS))}")
    return Prompt(
        prompt_id=label(row, "question_id", ""),
        category=category,
        turns=text_list(row, "turns"),
        labels={"raw_category": category},
    )
