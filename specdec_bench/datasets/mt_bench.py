"""MT-Bench, 80 questions of two turns.

Two formats are read: FastChat's question.jsonl (`question_id`, `category`, `turns`) and the hub's
HuggingFaceH4/mt_bench_prompts (`prompt_id`, `category`, `prompt`, a list).

Source: Zheng et al., "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", arXiv 2306.05685.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from specdec_bench import hub
from specdec_bench.config.schema.dataset import DatasetConfig
from specdec_bench.datasets.rows import label, read_prompts, required_path, text_list
from specdec_bench.records.request import Prompt
from specdec_bench.records.unused import Unused

HUB_REPOSITORY = "HuggingFaceH4/mt_bench_prompts"
HUB_REVISION = "e3a795c5e9a82ee40611c416b8a7786c73198991"
HUB_FILE = "raw/question.jsonl"
_HUB_FIELDS = ("prompt_id", "category", "prompt")


def load(config: DatasetConfig, unused: Unused) -> Iterator[tuple[int, Prompt]]:
    """Yields row numbers and questions of `config.path`, or else of the hub's copy, at a pinned revision.

    Raises:
        DatasetError: naming file and line, or there is neither a file nor a hub.
    """
    path = required_path(config) if config.path is not None else hub_file()

    def convert(row: dict[str, Any], number: int) -> Prompt:
        prompt = _prompt(row)
        unused.add_fields(row, ("question_id", "category", "turns") if "turns" in row else _HUB_FIELDS, number)
        return prompt

    return read_prompts(path, convert)


def hub_file() -> Path:
    """Returns the hub's copy of the questions, from the cache where it is.

    Raises:
        DatasetError: it is not in the cache and cannot be fetched.
    """
    return hub.fetch(HUB_REPOSITORY, HUB_REVISION, HUB_FILE, "pass dataset.path=question.jsonl (FastChat's file)")


def _prompt(row: dict[str, Any]) -> Prompt:
    id_key, turns_key = ("question_id", "turns") if "turns" in row else ("prompt_id", "prompt")
    missing = [key for key in (id_key, "category", turns_key) if row.get(key) in (None, "")]
    if missing:
        raise ValueError(f"not an MT-Bench question: lacks {', '.join(missing)} (has {', '.join(row)})")
    return Prompt(
        prompt_id=label(row, id_key, ""), category=label(row, "category", ""), turns=text_list(row, turns_key)
    )
