"""What prepare writes: the same bytes each time, whole or not at all, and read back as the same prompts."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from specdec_bench import datasets, hub
from specdec_bench.config.schema.dataset import (
    DemoDataset,
    HFDataset,
    JsonlDataset,
    PreparedDataset,
    SpecBenchDataset,
    SpeedBenchDataset,
)
from specdec_bench.datasets.prepare import dataset_config, prepare, read_metadata
from specdec_bench.datasets.speed_bench.resolver import PLACEHOLDER
from specdec_bench.errors import ConfigError, DatasetError
from specdec_bench.records.prompts_hash import prompts_fingerprint

QUESTIONS = [
    {"question_id": 81, "category": "writing", "turns": ["Write é.", "Rewrite."]},
    {"question_id": 82, "category": "math", "turns": ["Count.", "Again."]},
    {"question_id": 300, "category": "rag", "turns": ["Look\nup."]},
]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def spec_bench(tmp_path: Path) -> SpecBenchDataset:
    return SpecBenchDataset(path=write(tmp_path / "question.jsonl", QUESTIONS))


def test_the_prepared_prompts_are_those_of_the_source(tmp_path: Path, spec_bench: SpecBenchDataset) -> None:
    prepare(spec_bench, tmp_path / "p.parquet")
    found = datasets.load(PreparedDataset(path=str(tmp_path / "p.parquet")), seed=0).prompts
    assert found == datasets.load(spec_bench, seed=0).prompts


def test_every_field_of_a_prompt_survives(tmp_path: Path) -> None:
    row = {"prompt_id": "x", "category": "c", "turns": ["a", "b"], "system": "", "max_new_tokens": 7}
    config = JsonlDataset(path=write(tmp_path / "p.jsonl", [row] + [{"prompt": "d"}] * 600))
    prepare(config, tmp_path / "p.parquet")
    found = datasets.load(PreparedDataset(path=str(tmp_path / "p.parquet")), seed=0).prompts
    assert found == datasets.load(config, seed=0).prompts


def test_the_file_says_where_it_is_from(tmp_path: Path, spec_bench: SpecBenchDataset) -> None:
    made, changed = prepare(spec_bench, tmp_path / "p.parquet")
    assert changed
    assert spec_bench.path is not None
    assert made == read_metadata(tmp_path / "p.parquet")
    assert made == {
        "format": 1,
        "dataset": "spec_bench",
        "options": {"grouped": True},
        "source": "question.jsonl",
        "revision": None,
        "licence": "Apache-2.0",
        "source_files": {"question.jsonl": hashlib.sha256(Path(spec_bench.path).read_bytes()).hexdigest()},
        "sha256": prompts_fingerprint(datasets.load(spec_bench, seed=0).prompts),
        "num_prompts": 3,
        "num_turns": 5,
        "categories": {"mt_bench": 2, "rag": 1},
        "unused": {"rows": {}, "parts": {}, "fields": {}, "files": {}},
    }


def test_the_same_source_gives_the_same_bytes(tmp_path: Path, spec_bench: SpecBenchDataset) -> None:
    first, second = tmp_path / "p.parquet", tmp_path / "deeper" / "other.parquet"
    prepare(spec_bench, first)
    before = first.stat()
    _, changed = prepare(spec_bench, first)
    assert not changed
    assert (first.stat().st_ino, first.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns), "left alone"
    moved = tmp_path / "moved"
    moved.mkdir()
    prepare(SpecBenchDataset(path=write(moved / "question.jsonl", QUESTIONS)), second)
    assert first.read_bytes() == second.read_bytes()


def test_a_source_that_breaks_half_way_leaves_what_was_there(tmp_path: Path, spec_bench: SpecBenchDataset) -> None:
    output = tmp_path / "p.parquet"
    prepare(spec_bench, output)
    before = output.read_bytes()
    write(tmp_path / "question.jsonl", [*QUESTIONS, {"question_id": 301}])
    with pytest.raises(DatasetError, match=r"question\.jsonl:4: not a Spec-Bench question"):
        prepare(spec_bench, output)
    assert output.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.parquet", "question.jsonl"]


def test_what_was_changed_since_is_refused(tmp_path: Path, spec_bench: SpecBenchDataset) -> None:
    path = tmp_path / "p.parquet"
    made, _ = prepare(spec_bench, path)
    table = parquet.read_table(path)
    writer = parquet.ParquetWriter(path, table.schema)
    writer.write_table(table.slice(1))
    writer.add_key_value_metadata({"specdec_bench": json.dumps(made)})
    writer.close()
    with pytest.raises(DatasetError, match=r"p\.parquet: its prompts are not those that it was prepared with"):
        datasets.load(PreparedDataset(path=str(path)), seed=0)


def test_rows_of_other_columns_are_refused(tmp_path: Path, spec_bench: SpecBenchDataset) -> None:
    path = tmp_path / "p.parquet"
    made, _ = prepare(spec_bench, path)
    with parquet.ParquetWriter(path, pyarrow.schema([("turns", pyarrow.string())])) as writer:
        writer.write_table(pyarrow.table({"turns": ["a"]}))
        writer.add_key_value_metadata({"specdec_bench": json.dumps(made)})
    with pytest.raises(DatasetError, match=r"p\.parquet:1: not a row that prepare writes; run prepare again"):
        datasets.load(PreparedDataset(path=str(path)), seed=0)


def test_an_output_that_cannot_be_written_is_named(tmp_path: Path, spec_bench: SpecBenchDataset) -> None:
    for output, words in (
        (tmp_path, "a folder; give the path of the file to write"),
        (tmp_path / "question.jsonl" / "p.parquet", "cannot be written: File exists"),
        (Path("/proc/p.parquet"), "cannot be written: No such file or directory"),
        (tmp_path / ("x" * 300), "cannot be written: File name too long"),
    ):
        with pytest.raises(ConfigError, match=f"^--output={output}: {words}$"):
            prepare(spec_bench, output)
    assert [path.name for path in tmp_path.iterdir()] == ["question.jsonl"]


def test_another_parquet_file_is_not_taken_for_a_prepared_one(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    parquet.write_table(pyarrow.table({"turns": [["a"]]}), path)
    with pytest.raises(DatasetError, match=r"p\.parquet: was not written by prepare"):
        datasets.load(PreparedDataset(path=str(path)), seed=0)
    path.write_bytes(b"x")
    with pytest.raises(DatasetError, match=r"p\.parquet: cannot be read as parquet"):
        datasets.load(PreparedDataset(path=str(path)), seed=0)


def test_a_licence_that_has_to_be_accepted_is_shown(tmp_path: Path) -> None:
    row = {"question_id": "a", "category": "math", "turns": ["One?"]}
    config = SpeedBenchDataset(path=write(tmp_path / "q.jsonl", [row]))
    output = tmp_path / "p.parquet"
    with pytest.raises(ConfigError, match=r"speed_bench: NVIDIA Evaluation Dataset License .*--accept-license"):
        prepare(config, output)
    assert not output.exists()
    made, _ = prepare(config, output, accepted=True)
    assert made["options"] == {"split": "qualitative"}
    assert datasets.load(PreparedDataset(path=str(output)), seed=0).prompts == datasets.load(config, seed=0).prompts
    write(tmp_path / "q.jsonl", [row, row | {"question_id": "p", "turns": [PLACEHOLDER]}])
    with pytest.raises(DatasetError, match=r"1 placeholders belong to sets that cannot be resolved, .*: p;"):
        prepare(config, output, accepted=True)


def test_half_a_surrogate_pair_is_named(tmp_path: Path) -> None:
    config = JsonlDataset(path=write(tmp_path / "p.jsonl", [{"prompt": "fine"}, {"prompt": "\ud800"}]))
    with pytest.raises(DatasetError, match=r"p\.jsonl:2: holds half a surrogate pair"):
        prepare(config, tmp_path / "p.parquet")


def test_a_hub_dataset_must_be_pinned(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.id=a/b: pass dataset\.revision=COMMIT"):
        prepare(HFDataset(id="a/b", prompt_column="q"), tmp_path / "p.parquet")


def test_the_bundled_prompts_can_be_prepared(tmp_path: Path) -> None:
    config = dataset_config("demo", [])
    assert config == DemoDataset()
    made, _ = prepare(config, tmp_path / "demo.parquet")
    assert made["num_prompts"] == len(datasets.load(config, seed=0).prompts)
    assert list(made["source_files"]) == ["demo.jsonl"]


def test_overrides_are_those_of_a_run() -> None:
    assert dataset_config("spec_bench", ["dataset.path=q.jsonl", "grouped=false"]) == SpecBenchDataset(
        path="q.jsonl", grouped=False
    )


@pytest.mark.parametrize(
    ("name", "overrides", "words"),
    [
        ("random", [], "random: this dataset cannot be prepared; choose one of demo, mt_bench"),
        ("prepared", [], "prepared: this dataset cannot be prepared"),
        ("spec_bench", ["dataset.num_prompts=3"], r"dataset\.num_prompts=3: is for the run to select"),
        ("spec_bench", ["split=x"], "split=x: no such field; spec_bench has path, grouped"),
        ("spec_bench", ["path"], "path: no such field"),
        ("spec_bench", ["grouped=maybe"], "grouped=maybe: .*not a valid bool"),
    ],
)
def test_what_cannot_be_prepared_is_refused(name: str, overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        dataset_config(name, overrides)


# ---------------------------------------------------------------- SPEED-Bench's placeholders

PLACED = {
    "question_id": "c3",
    "category": "reasoning",
    "sub_category": "general",
    "turns": [PLACEHOLDER],
    "source": "https://raw.example/mtbench101/mt-bench-101/c0ffee/mtbench101.jsonl",
    "src_id": "mtbench_101_1",
    "difficulty": "hard",
    "multiturn": True,
}
WHOLE = {"question_id": "a", "category": "math", "turns": ["One?"]}


@pytest.fixture
def conversations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """MT-Bench-101's file, as if it had been fetched."""
    rows = [{"history": [{"user": "Hi.", "bot": "Hello."}]}, {"history": [{"user": "A?", "bot": "."}, {"user": "B?"}]}]
    path = Path(write(tmp_path / "mtbench101.jsonl", rows))
    monkeypatch.setattr(hub, "fetch_url", lambda _: path)
    return path


def test_placeholders_are_made_good_and_what_of_is_kept(tmp_path: Path, conversations: Path) -> None:
    config = SpeedBenchDataset(path=write(tmp_path / "q.jsonl", [PLACED, WHOLE]))
    told: list[str] = []
    made, _ = prepare(config, tmp_path / "p.parquet", accepted=True, on_load=told.append)
    found = datasets.load(PreparedDataset(path=str(tmp_path / "p.parquet")), seed=0).prompts
    assert [(prompt.prompt_id, prompt.turns) for prompt in found] == [("c3", ("A?", "B?")), ("a", ("One?",))]
    kept = ("sub_category", "difficulty", "source", "src_id")
    assert found[0].labels == {key: PLACED[key] for key in kept}
    assert made["made_of"] == {PLACED["source"]: hashlib.sha256(conversations.read_bytes()).hexdigest()}
    assert told == [PLACED["source"]]
    assert read_metadata(tmp_path / "p.parquet") == made


def test_what_cannot_be_made_is_refused_by_id_and_nothing_is_written(tmp_path: Path, conversations: Path) -> None:
    gone = [PLACED | {"question_id": f"g{i}", "src_id": f"mtbench_101_{i}"} for i in (7, 8)]
    config = SpeedBenchDataset(path=write(tmp_path / "q.jsonl", [gone[0], PLACED, WHOLE, gone[1]]))
    with pytest.raises(DatasetError, match="2 prompts cannot be made: g7, g8; the first because src_id='mtbench_101"):
        prepare(config, tmp_path / "p.parquet", accepted=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mtbench101.jsonl", "q.jsonl"]


@pytest.mark.parametrize(
    "made", [[], [{"user": ""}], [{"user": f"{PLACEHOLDER} again"}]], ids=["none", "empty", "again"]
)
def test_what_is_made_must_be_a_prompt(tmp_path: Path, conversations: Path, made: list[dict[str, str]]) -> None:
    write(conversations, [{"history": []}, {"history": made}])
    config = SpeedBenchDataset(path=write(tmp_path / "q.jsonl", [PLACED]))
    with pytest.raises(DatasetError, match="1 prompts cannot be made: c3;"):
        prepare(config, tmp_path / "p.parquet", accepted=True)


@pytest.mark.parametrize("split", ["qualitative", "throughput_8k"])
def test_without_a_path_the_split_comes_from_the_hub_at_a_pinned_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    asked: list[Any] = []
    row = WHOLE | ({} if split == "qualitative" else {"category": "mixed"})

    def fetch(repository: str, revision: str, filename: str, instead: str | None = None) -> Path:
        asked.append((repository, revision, filename))
        parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "f.parquet")
        return tmp_path / "f.parquet"

    monkeypatch.setattr(hub, "fetch", fetch)
    made, _ = prepare(SpeedBenchDataset(split=split), tmp_path / "p.parquet", accepted=True)
    file = f"{split}/test-00000-of-00001.parquet"
    revision = "487aa718444e816458d1a0a52bfce7a454285cf4"
    assert set(asked) == {("nvidia/SPEED-Bench", revision, file)}
    assert (made["source"], made["revision"], made["made_of"]) == (f"nvidia/SPEED-Bench, {file}", revision, {})
    assert made["licence"].startswith("NVIDIA Evaluation Dataset License")
