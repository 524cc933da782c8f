"""Whether prompts are in a benchmark: by equal text, and by a run of words that both have.

The benchmarks' questions are read by the project's own loaders and are not shipped.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from specdec_bench.config.schema.dataset import MTBenchDataset, SpecBenchDataset
from specdec_bench.datasets import mt_bench, spec_bench
from specdec_bench.records.unused import Unused

RUN_OF_WORDS = 13
"""As in the decontamination of Brown et al., "Language Models are Few-Shot Learners" (2005.14165)."""


@dataclass(frozen=True, kw_only=True)
class Questions:
    """Questions of benchmarks, normalized."""

    texts: frozenset[str]
    runs: frozenset[str]
    """Every run of RUN_OF_WORDS words."""


def read_questions(folder: Path) -> Questions:
    """Returns every turn of MT-Bench and Spec-Bench, whose question.jsonl are in the folder under their names."""
    mt_path, spec_path = (str(folder / f"{name}_question.jsonl") for name in ("mt_bench", "spec_bench"))
    rows = [
        *mt_bench.load(MTBenchDataset(path=mt_path), Unused()),
        *spec_bench.load(SpecBenchDataset(path=spec_path), Unused()),
    ]
    return of_texts(turn for _, row in rows for turn in row.turns)


def of_texts(texts: Iterable[str]) -> Questions:
    """Returns the questions of these texts."""
    normalized = frozenset(map(normalize, texts))
    return Questions(texts=normalized, runs=frozenset(run for text in normalized for run in runs_of(text)))


def normalize(text: str) -> str:
    """Returns the words in lower case, joined by single spaces: neither punctuation nor white space counts."""
    return " ".join(re.findall(r"\w+", text.lower()))


def runs_of(normalized: str) -> set[str]:
    """Returns every run of RUN_OF_WORDS words."""
    words = normalized.split()
    return {" ".join(words[begin : begin + RUN_OF_WORDS]) for begin in range(len(words) - RUN_OF_WORDS + 1)}


def is_question(normalized: str, questions: Questions) -> bool:
    """Whether a text equals a question."""
    return normalized in questions.texts


def shares_words(normalized: str, questions: Questions) -> bool:
    """Whether a text has a run of words that a question has."""
    return not questions.runs.isdisjoint(runs_of(normalized))


def count_overlaps(turns: Iterable[str], questions: Questions) -> dict[str, int]:
    """Returns how many of the turns equal a question, and how many share a run of words with one."""
    normalized = list(map(normalize, turns))
    return {
        "turns": len(normalized),
        "distinct_turns": len(set(normalized)),
        "turns_equal_to_a_question": sum(is_question(text, questions) for text in normalized),
        "turns_sharing_a_run_of_words": sum(shares_words(text, questions) for text in normalized),
    }


def overlaps(turns: Iterable[str], questions: Questions) -> bool:
    """Whether any of the turns equals a question or shares a run of words with one."""
    return any(is_question(text, questions) or shares_words(text, questions) for text in map(normalize, turns))
