"""Files of prompts, good and broken, and the subset that is drawn from them."""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from specdec_bench import datasets
from specdec_bench.config.schema.dataset import JsonlDataset, MTBenchDataset, ShareGPTDataset, SpecBenchDataset
from specdec_bench.datasets import stratified as subset
from specdec_bench.errors import DatasetError
from specdec_bench.records.request import Prompt


def write(path: Path, *rows: dict[str, Any] | bytes) -> str:
    """Writes rows as JSON Lines; bytes go in as they are."""
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return str(path)


def load(tmp_path: Path, *rows: dict[str, Any] | bytes) -> list[Prompt]:
    return datasets.load(JsonlDataset(path=write(tmp_path / "p.jsonl", *rows)), seed=0).prompts


def load_mt_bench(tmp_path: Path, *rows: dict[str, Any] | bytes) -> list[Prompt]:
    return datasets.load(MTBenchDataset(path=write(tmp_path / "q.jsonl", *rows)), seed=0).prompts


# ---------------------------------------------------------------- MT-Bench

FASTCHAT = {"question_id": 81, "category": "writing", "turns": ["Write.", "Rewrite."]}
HUB = {"prompt_id": 81, "category": "writing", "prompt": ["Write.", "Rewrite."], "reference": []}


@pytest.mark.parametrize("row", [FASTCHAT, HUB, FASTCHAT | {"reference": ["r", "r"]}], ids=["FastChat", "hub", "ref"])
def test_both_formats_of_mt_bench_are_the_same_prompt(tmp_path: Path, row: dict[str, Any]) -> None:
    assert load_mt_bench(tmp_path, row) == [
        Prompt(prompt_id="81", category="writing", turns=("Write.", "Rewrite."), system=None, max_new_tokens=None)
    ]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"category": "writing", "turns": ["a"]}, "lacks question_id"),
        ({"question_id": 1, "turns": ["a"]}, "lacks category"),
        (FASTCHAT | {"question_id": None, "category": None}, "lacks question_id, category"),
        (FASTCHAT | {"category": ["writing"]}, "category=.*must be a string or a whole number"),
        ({"prompt_id": 1, "category": "writing"}, "lacks prompt"),
        ({"instruction": "a"}, "lacks prompt_id, category, prompt .has instruction."),
        (FASTCHAT | {"turns": "Write."}, "turns='Write.': must be a non-empty list"),
        (FASTCHAT | {"turns": []}, "turns=.*non-empty list"),
        (FASTCHAT | {"turns": ["a", ""]}, "turns=.*non-empty strings"),
        (FASTCHAT | {"turns": ["a", 2]}, "turns=.*non-empty strings"),
        (HUB | {"prompt": "Write."}, "prompt='Write.': must be a non-empty list"),
    ],
)
def test_what_is_no_mt_bench_question_is_refused_by_line(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    with pytest.raises(DatasetError, match=rf"q\.jsonl:2: .*{words}"):
        load_mt_bench(tmp_path, FASTCHAT, row)


# ---------------------------------------------------------------- JSON Lines


def test_the_fields_of_a_line(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        {"prompt": "One."},
        {"turns": ["One.", "Two."], "prompt_id": "x", "category": "c", "system": "Be brief.", "max_new_tokens": 7},
    )
    assert found == [
        Prompt(prompt_id="1", category="default", turns=("One.",)),
        Prompt(prompt_id="x", category="c", turns=("One.", "Two."), system="Be brief.", max_new_tokens=7),
    ]


def test_null_stands_for_a_field_that_is_not_there(tmp_path: Path) -> None:
    row = {"prompt": "One.", "prompt_id": None, "category": None, "system": None, "max_new_tokens": None}
    assert load(tmp_path, row) == [Prompt(prompt_id="1", category="default", turns=("One.",))]


def test_numbers_are_ids_and_categories_too(tmp_path: Path) -> None:
    assert load(tmp_path, {"prompt": "One.", "prompt_id": 0, "category": 3}) == [
        Prompt(prompt_id="0", category="3", turns=("One.",))
    ]


def test_blank_lines_are_passed_over_and_counted(tmp_path: Path) -> None:
    """The id of a prompt without one is its line in the file, as an editor shows it."""
    found = load(tmp_path, b"", {"prompt": "a"}, b"   ", b"\r", {"prompt": "b"})
    assert [prompt.prompt_id for prompt in found] == ["2", "5"]


def test_a_byte_order_mark_and_windows_line_ends_are_no_text(tmp_path: Path) -> None:
    found = load(tmp_path, b'\xef\xbb\xbf{"prompt": "a"}\r', b'{"prompt": "b"}\r')
    assert [prompt.turns for prompt in found] == [("a",), ("b",)]


def test_only_a_newline_ends_a_line(tmp_path: Path) -> None:
    text = "one\u2028two\u2029three\x85four\x0bfive"
    found = load(tmp_path, json.dumps({"prompt": text}, ensure_ascii=False).replace("\x0b", "\\u000b").encode())
    assert found[0].turns == (text,)


def test_the_last_line_needs_no_newline(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(b'{"prompt": "a"}\n{"prompt": "b"}')
    assert len(datasets.load(JsonlDataset(path=str(path)), seed=0).prompts) == 2


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (b'{"prompt": "a', "not JSON"),
        (b'{"prompt": "a"} {"prompt": "b"}', "not JSON"),
        (b"prompt", "not JSON"),
        (b'{"prompt": "\xff"}', "not UTF-8 .byte 12.; save the file as UTF-8"),
        (b'["a"]', "a JSON list; each line must be an object"),
        (b'"a"', "a JSON str; each line must be an object"),
        (b"null", "a JSON NoneType; each line must be an object"),
        ({}, "has neither turns nor prompt; its fields are none"),
        ({"text": "a"}, "has neither turns nor prompt; its fields are text, known are .*prompt_id"),
        ({"prompt": "a", "turns": ["a"]}, "has both turns and prompt"),
        ({"prompt": ""}, "must be a non-empty list of non-empty strings"),
        ({"prompt": ["a"]}, "must be a non-empty list of non-empty strings"),
        ({"prompt": None}, "must be a non-empty list of non-empty strings"),
        ({"turns": "abc"}, "turns='abc': must be a non-empty list of non-empty strings"),
        ({"turns": []}, "must be a non-empty list of non-empty strings"),
        ({"turns": ["a", None]}, "must be a non-empty list of non-empty strings"),
        ({"prompt": "a", "system": 1}, "system=1: must be a string"),
        ({"prompt": "a", "max_new_tokens": "7"}, "max_new_tokens='7': must be a whole number of at least 1"),
        ({"prompt": "a", "max_new_tokens": 7.0}, "max_new_tokens=7.0: must be a whole number"),
        ({"prompt": "a", "max_new_tokens": True}, "max_new_tokens=True: must be a whole number"),
        ({"prompt": "a", "max_new_tokens": 0}, "max_new_tokens=0: must be a whole number of at least 1"),
        ({"prompt": "a", "prompt_id": ["x"]}, "prompt_id=.*must be a string or a whole number"),
        ({"prompt": "a", "category": {"x": 1}}, "category=.*must be a string or a whole number"),
        ({"prompt": "a", "category": True}, "category=.*must be a string or a whole number"),
    ],
)
def test_a_broken_line_is_named_with_its_number(tmp_path: Path, row: dict[str, Any] | bytes, words: str) -> None:
    with pytest.raises(DatasetError, match=rf"p\.jsonl:3: .*{words}") as caught:
        load(tmp_path, {"prompt": "a"}, b"", row, {"prompt": "b"})
    assert len(str(caught.value).splitlines()) == 1


def test_two_prompts_with_one_id_are_refused(tmp_path: Path) -> None:
    """By hand and by line number alike: requests are told apart by it."""
    with pytest.raises(DatasetError, match=r"p\.jsonl: the id 'x' appears twice, in rows 1 and 2; ids must be unique"):
        load(tmp_path, {"prompt": "a", "prompt_id": "x"}, {"prompt": "b", "prompt_id": "x"})
    with pytest.raises(DatasetError, match="'2' appears twice, in rows 1 and 2"):
        load(tmp_path, {"prompt": "a", "prompt_id": 2}, {"prompt": "b"})


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf"], ids=["empty", "blank", "byte order mark"])
def test_a_file_without_a_prompt_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"p\.jsonl"):
        datasets.load(JsonlDataset(path=str(path)), seed=0)


@pytest.mark.parametrize("dataset", [JsonlDataset, SpecBenchDataset, ShareGPTDataset])
def test_a_file_that_is_needed_is_asked_for(dataset: type[JsonlDataset]) -> None:
    with pytest.raises(DatasetError, match=r"needs its file; pass dataset\.path="):
        datasets.load(dataset(), seed=0)


@pytest.mark.parametrize("dataset", [JsonlDataset, MTBenchDataset, SpecBenchDataset, ShareGPTDataset])
def test_a_missing_file_is_named(tmp_path: Path, dataset: type[JsonlDataset]) -> None:
    for path in (tmp_path / "missing.jsonl", tmp_path / "missing" / "p.jsonl"):
        with pytest.raises(DatasetError, match=rf"dataset\.path={path}: no such file"):
            datasets.load(dataset(path=str(path)), seed=0)


# ---------------------------------------------------------------- subsets


def test_a_subset_is_drawn_over_the_categories_in_the_files_order(tmp_path: Path) -> None:
    """The first two of four would be "a" alone."""
    path = write(tmp_path / "p.jsonl", *({"prompt": str(i), "category": name} for i, name in enumerate("aabb")))
    found = datasets.load(JsonlDataset(path=path, num_prompts=2), seed=0).prompts
    assert [prompt.category for prompt in found] == ["a", "b"]
    whole = datasets.load(JsonlDataset(path=path), seed=0).prompts
    assert datasets.load(JsonlDataset(path=path, num_prompts=4), seed=0).prompts == whole


def test_more_prompts_than_there_are_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {"prompt": "a"}, {"prompt": "b"})
    with pytest.raises(DatasetError, match=r"num_prompts=3: jsonl has 2; .*raise load\.repeats"):
        datasets.load(JsonlDataset(path=path, num_prompts=3), seed=0)


def prompts(**sizes: int) -> list[Prompt]:
    """That many prompts of each category, one category after another."""
    return [
        Prompt(prompt_id=f"{category}{i}", category=category, turns=("t",))
        for category, size in sizes.items()
        for i in range(size)
    ]


def categories(chosen: Iterable[Prompt]) -> dict[str, int]:
    return dict(Counter(prompt.category for prompt in chosen))


def stratified(everything: list[Prompt], num_prompts: int, seed: int) -> list[Prompt]:
    return [everything[index] for index in subset.drawn([prompt.category for prompt in everything], num_prompts, seed)]


MT_BENCH = prompts(writing=10, roleplay=10, reasoning=10, math=10, coding=10, extraction=10, stem=10, humanities=10)


@pytest.mark.parametrize(("num_prompts", "each"), [(8, {1}), (10, {1, 2}), (16, {2}), (79, {9, 10}), (80, {10})])
def test_equal_categories_get_equal_shares(num_prompts: int, each: set[int]) -> None:
    found = stratified(MT_BENCH, num_prompts, seed=0)
    assert len(found) == num_prompts
    assert set(categories(found).values()) == each
    assert len(categories(found)) == 8


def test_shares_are_in_proportion_and_what_is_left_goes_to_the_largest_remainder() -> None:
    """7 of 6 + 3 + 1: shares 4.2, 2.1 and 0.7; the one left over goes to the 0.7."""
    assert categories(stratified(prompts(a=6, b=3, c=1), 7, seed=0)) == {"a": 4, "b": 2, "c": 1}
    assert categories(stratified(prompts(a=6, b=3, c=1), 10, seed=0)) == {"a": 6, "b": 3, "c": 1}


def test_fewer_prompts_than_categories_are_drawn_from_different_ones() -> None:
    drawn = [categories(stratified(MT_BENCH, 3, seed)) for seed in range(20)]
    assert {frozenset(found.values()) for found in drawn} == {frozenset({1})}
    assert len({frozenset(found) for found in drawn}) > 1, "which categories are left out is drawn too"


def test_no_share_exceeds_its_category_and_none_is_off_by_one() -> None:
    for seed in range(300):
        rng = random.Random(seed)
        sizes = {f"c{i}": rng.randint(1, 9) for i in range(rng.randint(1, 5))}
        everything = prompts(**sizes)
        rng.shuffle(everything)
        num_prompts = rng.randint(1, len(everything))
        found = stratified(everything, num_prompts, seed)
        assert len(found) == len({prompt.prompt_id for prompt in found}) == num_prompts
        assert found == [prompt for prompt in everything if prompt in found], "the source's order"
        for category, size in sizes.items():
            share = num_prompts * size / len(everything)
            assert abs(categories(found).get(category, 0) - share) < 1, f"seed {seed}"


def test_the_subset_is_not_the_head_of_each_category_and_depends_on_the_seed() -> None:
    drawn = {tuple(prompt.prompt_id for prompt in stratified(MT_BENCH, 8, seed)) for seed in range(10)}
    assert len(drawn) == 10
    assert tuple(f"{category}0" for category in categories(MT_BENCH)) not in drawn


def test_a_larger_subset_holds_the_smaller_one() -> None:
    chosen = [{prompt.prompt_id for prompt in stratified(MT_BENCH, n, seed=3)} for n in (8, 16, 40, 80)]
    assert chosen[0] < chosen[1] < chosen[2] < chosen[3]


def test_a_category_whose_share_does_not_shrink_keeps_its_prompts() -> None:
    """Unequal categories: a remainder may pass on to another category, and only then does one lose a prompt."""
    everything = prompts(a=7, b=5, c=2)
    subsets = [stratified(everything, n, seed=1) for n in range(1, 15)]
    for smaller in subsets:
        for larger in subsets[len(smaller) :]:
            for category, count in categories(smaller).items():
                if categories(larger).get(category, 0) >= count:
                    assert {p.prompt_id for p in smaller if p.category == category} <= {p.prompt_id for p in larger}


_DRAW = """
from specdec_bench.datasets.stratified import drawn
prompts = [(c, f"{c}{i}") for c in ("a", "b", "c", "d") for i in range(9)]
print(*(prompts[index][1] for index in drawn([category for category, _ in prompts], 10, seed=5)))
"""


def test_every_process_draws_the_same_subset() -> None:
    """Python's own hashes differ from process to process, and its random generator takes strings as seeds."""
    drawn = [
        subprocess.run(
            [sys.executable, "-c", _DRAW],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        for hash_seed in ("1", "2")
    ]
    assert drawn[0] == drawn[1]
    assert drawn[0] == [prompt.prompt_id for prompt in stratified(prompts(a=9, b=9, c=9, d=9), 10, seed=5)]


def test_the_draw_of_a_seed_is_frozen() -> None:
    """An archived `num_prompts` and `seed` must name the same prompts in every release."""
    assert [p.prompt_id for p in stratified(prompts(a=9, b=9), 4, seed=0)] == ["a2", "a8", "b1", "b2"]
