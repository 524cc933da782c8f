"""What is selected by category and by length, and what stays in memory meanwhile."""

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from specdec_bench import datasets
from specdec_bench.config.schema.dataset import DatasetConfig, JsonlDataset
from specdec_bench.datasets import jsonl
from specdec_bench.errors import ConfigError, DatasetError
from specdec_bench.records.request import Prompt


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Nine prompts of lengths 1 to 9, in turn of the categories a, b and c."""
    rows = [{"prompt": "x" * (i + 1), "category": "abc"[i % 3]} for i in range(9)]
    file = tmp_path / "p.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)


def ids(config: DatasetConfig) -> str:
    return " ".join(p.prompt_id for p in datasets.load(config, seed=0, count_tokens=lambda p: len(p.turns[0])).prompts)


def test_categories_are_taken_in_the_order_of_the_source(path: str) -> None:
    assert ids(JsonlDataset(path=path, categories=["c", "a"])) == "1 3 4 6 7 9"


def test_a_category_that_is_not_there_is_refused_with_those_that_are(path: str) -> None:
    with pytest.raises(DatasetError, match=r"dataset\.categories: 'd' is not a category of jsonl, which has a, b, c"):
        ids(JsonlDataset(path=path, categories=["a", "d"]))


@pytest.mark.parametrize(
    ("least", "most", "expected"),
    [(4, None, "4 5 6 7 8 9"), (None, 2, "1 2"), (3, 3, "3"), (1, 9, "1 2 3 4 5 6 7 8 9")],
)
def test_both_limits_of_the_length_are_included(path: str, least: int | None, most: int | None, expected: str) -> None:
    assert ids(JsonlDataset(path=path, min_input_tokens=least, max_input_tokens=most)) == expected


def test_the_subset_is_drawn_from_what_was_selected(path: str) -> None:
    config = JsonlDataset(path=path, categories=["a", "b"], max_input_tokens=5, num_prompts=4)
    assert ids(config) == "1 2 4 5"
    config.num_prompts = 5
    with pytest.raises(DatasetError, match=r"dataset\.num_prompts=5: jsonl has 4 such prompts; ask for at most"):
        ids(config)


def test_limits_that_nothing_meets_are_refused(path: str) -> None:
    with pytest.raises(DatasetError, match="none of its prompts has at least 10 input tokens; widen the limits"):
        ids(JsonlDataset(path=path, min_input_tokens=10))


def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"dataset\.min_input_tokens=3: must not exceed max_input_tokens=2"):
        JsonlDataset(min_input_tokens=3, max_input_tokens=2)
    with pytest.raises(ConfigError, match=r"dataset\.categories=\[\]: name at least one"):
        JsonlDataset(categories=[])


def test_what_is_not_selected_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 conversations of 50 KB, of which 50 are drawn: 1 GB passes through."""
    monkeypatch.setattr(jsonl, "load", lambda *_: many())
    tracemalloc.start()
    try:
        found = datasets.load(JsonlDataset(path="p", num_prompts=50), seed=0).prompts
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found) == 50
    assert peak < 10e6, "the ids that must be unique, and the categories"


def many() -> Iterator[tuple[int, Prompt]]:
    for number in range(20_000):
        yield (
            number + 1,
            Prompt(prompt_id=str(number), category=str(number % 7), turns=("x" * 50_000 + str(number),)),
        )


@pytest.mark.parametrize(
    ("num_turns", "expected"),
    [
        (None, [("a", "b", "c"), ("d",)]),
        (1, [("a",), ("d",)]),
        (2, [("a", "b"), ("d",)]),
        (9, [("a", "b", "c"), ("d",)]),
    ],
)
def test_only_the_first_turns_are_asked(tmp_path: Path, num_turns: int | None, expected: list[tuple[str, ...]]) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text('{"turns": ["a", "b", "c"]}\n{"prompt": "d"}\n', encoding="utf-8")
    prompts = datasets.load(JsonlDataset(path=str(file), num_turns=num_turns), seed=0).prompts
    assert [prompt.turns for prompt in prompts] == expected
    assert [prompt.prompt_id for prompt in prompts] == ["1", "2"]


def test_no_turns_at_all_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"dataset\.num_turns=0: must be at least 1"):
        JsonlDataset(path="p.jsonl", num_turns=0)


def test_the_manifest_learns_how_many_were_left_at_each_step(path: str) -> None:
    """Of 9 prompts in 3 categories, 6 are of two of them, 4 of those have at most 5 characters, 3 are drawn."""
    config = JsonlDataset(path=path, categories=["a", "b"], max_input_tokens=5, num_prompts=3)
    origin = datasets.load(config, seed=0, count_tokens=lambda p: len(p.turns[0])).origin
    assert origin == {
        "num_rows": 9,
        "num_usable": 9,
        "num_of_categories": 6,
        "num_of_length": 4,
        "num_turns_cut": 0,
        "unused": {"rows": {}, "parts": {}, "fields": {}, "files": {}},
    }
    whole = datasets.load(JsonlDataset(path=path), seed=0).origin
    assert (whole["num_usable"], whole["num_of_categories"], whole["num_of_length"]) == (9, None, None)
    assert set(origin) == set(datasets.ORIGIN)


@pytest.mark.parametrize(("num_turns", "num_cut"), [(None, 0), (1, 2), (2, 1), (3, 0)])
def test_the_turns_that_are_cut_are_counted(tmp_path: Path, num_turns: int | None, num_cut: int) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text('{"turns": ["a", "b", "c"]}\n{"prompt": "d"}\n', encoding="utf-8")
    assert datasets.load(JsonlDataset(path=str(file), num_turns=num_turns), seed=0).origin["num_turns_cut"] == num_cut


def test_a_file_that_shrinks_between_two_readings_is_named(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config, read = JsonlDataset(path=path, num_prompts=9), jsonl.load
    monkeypatch.setattr(jsonl, "load", lambda *given: _then_cut(read(*given), Path(path)))
    with pytest.raises(DatasetError, match=r"p\.jsonl: changed while it was read"):
        datasets.load(config, seed=0)


def _then_cut(prompts: Iterator[tuple[int, Prompt]], path: Path) -> Iterator[tuple[int, Prompt]]:
    yield from prompts
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:4]))
