"""How what placeholders are made of is loaded: from where, at which revision, and what is said where it cannot be."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import datasets
import pytest
import tiktoken

from specdec_bench import hub
from specdec_bench.datasets.speed_bench import sources, wording
from specdec_bench.datasets.speed_bench.rules import RULES
from specdec_bench.datasets.speed_bench.sources import HubFiles, HubRows, Tokens, WebFile, Words
from specdec_bench.errors import DatasetError

CHAT_RAG = {"source": "https://hub.example/nvidia/ChatRAG-Bench", "src_id": "chatrag_bench_1"}


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "is_offline_by_choice", lambda: False)
    monkeypatch.setattr(hub, "is_reachable", lambda: True)


@pytest.mark.usefixtures("online")
def test_configurations_come_one_after_another_at_the_pinned_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load_dataset(repository: str, configuration: str, **options: Any) -> datasets.Dataset:
        asked.append((repository, configuration, options))
        return datasets.Dataset.from_list([{"ctxs": [], "messages": [{"role": configuration}], "answers": "x"}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    need = RULES["nvidia/ChatRAG-Bench"].needs(CHAT_RAG, None)[0]
    found = need.load()
    assert list(found) == [{"ctxs": [], "messages": [{"role": name}]} for name in ("hybridial", "sqa")]
    options = {"split": "test", "revision": "af6c7d420ddddf21f54f8ab3394bbf462aad2577"}
    assert asked == [("nvidia/ChatRAG-Bench", name, options) for name in ("hybridial", "sqa")]


@pytest.mark.usefixtures("online")
def test_a_set_that_the_hub_does_not_give_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*_: Any, **__: Any) -> Any:
        raise datasets.exceptions.DatasetNotFoundError("Dataset 'cais/hle' is a gated dataset.\nLog in.")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DatasetError, match=r"^cais/hle: Dataset 'cais/hle' is a gated dataset\.$"):
        HubRows("cais/hle", "c0ffee", ("id",)).load()


def test_without_a_hub_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "is_offline_by_choice", lambda: False)
    monkeypatch.setattr(hub, "is_reachable", lambda: False)
    with pytest.raises(DatasetError, match=r"^a/b c: the hub cannot be reached from here$"):
        HubRows("a/b", "c0ffee", ("id",), ("c",)).load()


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DatasetError, match=r"^a/b: needs the datasets library; install specdec-bench\[speed_bench\]"):
        HubRows("a/b", "c0ffee", ("id",)).load()


def test_the_hub_s_files_come_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of LiveCodeBench three columns of its six files are kept, which hold gigabytes of test cases."""
    asked: list[Any] = []

    def fetch(repository: str, revision: str, filename: str) -> Path:
        asked.append((repository, revision, filename))
        path = tmp_path / filename
        row = {"question_id": filename, "question_content": "Q", "starter_code": "", "private_test_cases": "x"}
        path.write_text(json.dumps(row) + "\n", encoding="utf-8")
        return path

    monkeypatch.setattr(hub, "fetch", fetch)
    task = {"source": "https://hub.example/livecodebench/code_generation_lite", "src_id": "abc1"}
    found = list(RULES["livecodebench/code_generation_lite"].needs(task, 1000)[0].load())
    names = [f"test{number}.jsonl" for number in ("", 2, 3, 4, 5, 6)]
    assert found == [{"question_id": name, "question_content": "Q", "starter_code": ""} for name in names]
    assert asked == [
        ("livecodebench/code_generation_lite", "0fe84c3912ea0c4d4a78037083943e8f0c4dd505", name) for name in names
    ]


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ('[{"a": 1}, {"a": 2}]', [{"a": 1}, {"a": 2}]),
        ('{\n"Jack": "a pirate",\n"Jill": "b"}', [{"Jack": "a pirate", "Jill": "b"}]),
        ('{"a": 1}\n{"a": 2}\n', [{"a": 1}, {"a": 2}]),
    ],
    ids=["an array", "one object", "lines"],
)
def test_json_of_every_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, rows: list[dict[str, Any]]
) -> None:
    path = tmp_path / "desc.json"
    path.write_text(content, encoding="utf-8")
    monkeypatch.setattr(hub, "fetch", lambda *_: path)
    monkeypatch.setattr(hub, "fetch_url", lambda *_: path)
    assert list(HubFiles("a/b", "c0ffee", ("desc.json",)).load()) == rows
    assert list(WebFile("https://example.org/desc.json").load()) == rows
    assert WebFile("https://example.org/desc.json").version() == sources.sha256(path)


@pytest.mark.parametrize("content", [b"", b"{", b'[{"a": 1}', b"\xff\xfe"])
def test_a_broken_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    path = tmp_path / "f.json"
    path.write_bytes(content)
    monkeypatch.setattr(hub, "fetch_url", lambda *_: path)
    if content:
        with pytest.raises(DatasetError, match=r"f\.json(:1)?: "):
            WebFile("https://example.org/f.json").load()
    else:
        assert len(WebFile("https://example.org/f.json").load()) == 0, "so that no row of it is found"


def test_the_vocabulary_that_cannot_be_fetched_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def get_encoding(_: str) -> Any:
        raise OSError("no route\nto anywhere")

    monkeypatch.setattr(tiktoken, "get_encoding", get_encoding)
    with pytest.raises(DatasetError, match=r"^tiktoken's o200k_base: cannot be fetched: no route$"):
        Tokens().load()


# ---------------------------------------------------------------- NVIDIA's sentences

FILE = '''
class SPEEDBench:
    def _generate_stackselect_prompt(question, answers, answer, num_tokens):
        encoder = get_encoding("o")
        prompt = """Intro."""
        prompt += "Question."
        prompt += question + "nn"
        prompt += "Answers."
        end = "One "
        end += "two "
        end += "three."
    def _generate_textsort_prompt(prompt):
        old = "Old."
        new = "New."
    def _generate_writing_prompt(contents):
        content = "nn".join(f"START {i}nn{content}END" for i, content in contents)
        return f"""Write. {content} """
    def _pad_or_truncate_prompt(prompt, target, padding="Pad."):
        pass
    def _generate_chatrag_bench_prompt(rows: "Dataset"):
        prompt = "Rag."
    def _generate_coser_prompt(rows: "Dataset"):
        prompt = "Coser."
        use("2", "3", "4", "5", "6", "7", "8", "Why not")
    def _generate_mmlu_pro_prompt(rows: "Dataset"):
        use("1", "2", "3", "4", "5", "6", "7")
        prompt = "Mmlu."
    def _generate_hle_prompt(train: "Frame", rng: "Generator"):
        use("2")
        prompt = "Hle."
'''


def test_the_sentences_are_read_by_where_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "speed.py"
    path.write_text(FILE, encoding="utf-8")
    assert wording.parse(path)._asdict() == {
        "stack_select": "Intro.",
        "stack_select_question": "Question.",
        "stack_select_answers": "Answers.",
        "stack_select_end": "One two three.",
        "text_sort": "Old.",
        "text_sort_instead": "New.",
        "writing": "Write. ",
        "padding": "Pad.",
        "chat_rag": "Rag.",
        "coser": "Coser.",
        "coser_no_motivation": "Why not",
        "mmlu_pro": "Mmlu.",
        "hle": "Hle.",
    }


@pytest.mark.parametrize("content", ["def f(:", "x = 1", FILE.replace("_generate_hle", "_hle")])
def test_another_file_has_no_sentences(tmp_path: Path, content: str) -> None:
    path = tmp_path / "speed.py"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DatasetError, match=r"speed\.py: not NVIDIA's datasets/speed\.py"):
        wording.parse(path)


def test_a_file_that_is_not_the_pinned_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "speed.py"
    path.write_text(FILE, encoding="utf-8")
    asked: list[str] = []

    def fetch_url(url: str) -> Path:
        asked.append(url)
        return path

    monkeypatch.setattr(hub, "fetch_url", fetch_url)
    with pytest.raises(DatasetError, match=r"speed\.py: is not https://.*; remove it and try again"):
        Words().load()
    assert wording.REVISION in asked[0]
    monkeypatch.setattr(wording, "SHA256", sources.sha256(path))
    assert Words().load().hle == "Hle."
    assert Words().version() == wording.REVISION
