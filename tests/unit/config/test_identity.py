"""What is the same cell and what is not."""

from typing import Any

import pytest

from specdec_bench.config.identity import baseline_id, cell_id

TREE: dict[str, Any] = {
    "engine": {"name": "vllm", "max_num_seqs": 16, "extra_args": {"a": 1, "b": 2}},
    "model": {
        "name": "tiny",
        "path": "/here/target",
        "revision": None,
        "tokenizer": None,
        "dtype": "float32",
        "drafts": {},
    },
    "dataset": {"name": "demo", "path": None},
    "spec": {"name": "eagle3", "draft_length": 3, "draft": {"path": "/here/draft", "revision": None}},
    "load": {"name": "closed", "concurrency": 4},
    "sampling": {"temperature": 0.0},
    "seed": 0,
    "replicate": 0,
    "expected": {"source": "somewhere"},
}
CONTENT = {"target": "t", "draft": "d"}


def test_paths_names_and_key_order_do_not_count() -> None:
    moved = {key: TREE[key] for key in reversed(TREE)}
    moved["model"] = {**TREE["model"], "name": "mine", "path": "/there/target"}
    moved["spec"] = {**TREE["spec"], "draft": {"path": "/there/draft", "revision": None}}
    moved["engine"] = {"extra_args": {"b": 2, "a": 1}, "max_num_seqs": 16, "name": "vllm"}
    moved["engine"]["stall_timeout_s"] = 5.0  # how long it is waited for changes nothing; archives of before lack it
    moved["dataset"] = {"name": "jsonl", "path": "copy.jsonl"}
    assert cell_id(moved, "prompts", CONTENT) == cell_id(TREE, "prompts", CONTENT)


@pytest.mark.parametrize(
    ("group", "change"),
    [
        ("engine", {"max_num_seqs": 32}),
        ("model", {"dtype": "bfloat16"}),
        ("spec", {"draft_length": 5}),
        ("load", {"concurrency": 8}),
        ("sampling", {"temperature": 1.0}),
    ],
)
def test_whatever_is_asked_for_counts(group: str, change: dict[str, Any]) -> None:
    changed = {**TREE, group: {**TREE[group], **change}}
    assert cell_id(changed, "prompts", CONTENT) != cell_id(TREE, "prompts", CONTENT)


def test_contents_seed_and_replicate_count() -> None:
    ids = {
        cell_id(TREE, "prompts", CONTENT),
        cell_id(TREE, "others", CONTENT),
        cell_id(TREE, "prompts", {**CONTENT, "target": "u"}),
        cell_id(TREE, "prompts", {**CONTENT, "draft": "e"}),
        cell_id({**TREE, "seed": 1}, "prompts", CONTENT),
        cell_id({**TREE, "replicate": 1}, "prompts", CONTENT),
    }
    assert len(ids) == 6


def test_the_plain_cell_is_the_baseline_of_itself_and_of_its_speculative_ones() -> None:
    plain = {**TREE, "spec": {"name": "none"}}
    own = cell_id(plain, "prompts", {"target": "t"})
    assert baseline_id(plain, "prompts", {"target": "t"}) == own
    assert baseline_id(TREE, "prompts", CONTENT) == own
    assert baseline_id({**plain, "replicate": 1}, "prompts", {"target": "t"}) == own


def test_one_client_is_the_cell_of_before_and_more_are_another() -> None:
    loads = [{**TREE, "load": {**TREE["load"], "clients": clients}} for clients in ("1", "2", "auto")]
    ids = [cell_id(tree, "prompts", CONTENT) for tree in loads]
    assert ids[0] == cell_id(TREE, "prompts", CONTENT)
    assert len(set(ids)) == 3
