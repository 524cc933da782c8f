"""Each of SPEED-Bench's source sets, on rows in that set's own format; what is said where a set cannot be had.

The sentences here are made up: NVIDIA's are read from its file (`wording`), and none is in this project.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiktoken
from datasets import Dataset

from specdec_bench.datasets.speed_bench import turns
from specdec_bench.datasets.speed_bench.resolver import PLACEHOLDER, Resolver
from specdec_bench.datasets.speed_bench.rules import RULES
from specdec_bench.datasets.speed_bench.sources import HLEHalves, Need, Tokens, Words
from specdec_bench.datasets.speed_bench.turns import HLEExamples, Table, Wording
from specdec_bench.errors import DatasetError

WORDING = Wording(
    stack_select="Choose.\n",
    stack_select_question="Q:\n",
    stack_select_answers="Answers:\n",
    stack_select_end="End.\n",
    text_sort="Sort by number.",
    text_sort_instead="Sort by text.",
    writing="Go on.\n\n",
    padding="Now!\n",
    chat_rag="{context}\n--\n{question}",
    coser="{character} of {book_name}: {character_profile}; {scenario}; {other_character_profiles_str}; {motivation}",
    coser_no_motivation="none",
    mmlu_pro="On {subject}.\n\n",
    hle="Solve, as in ",
)
BYTES = tiktoken.Encoding(
    "bytes", pat_str=r"[\s\S]", mergeable_ranks={bytes([i]): i for i in range(256)}, special_tokens={}
)
"""One token a byte, so that lengths can be counted by hand."""
HUB = "https://huggingface.co/datasets"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def row(source: str, src_id: str, *texts: str, num_turns: int = 1, **more: Any) -> dict[str, Any]:
    """A placeholder as SPEED-Bench has it: the first turn may go on with a template."""
    first = "\n\n".join([PLACEHOLDER, *texts])
    return {
        "question_id": "0a1b",
        "category": "c",
        "turns": [first, *[PLACEHOLDER] * (num_turns - 1)],
        "source": source,
        "src_id": src_id,
    } | more


def made(task: dict[str, Any], *tables: Any, num_tokens: int | None = None) -> list[str]:
    """Resolves one row; the set's tables are given in the order in which the rule needs them."""
    given = iter(tables)

    def load(need: Need) -> Any:
        match need:
            case Words():
                return WORDING
            case Tokens():
                return BYTES
            case HLEHalves():
                return HLEExamples(Table(next(given)), BYTES)
            case _:
                return Table(next(given))

    return Resolver([task], num_tokens, load=load).turns(task)


# ---------------------------------------------------------------- the sets one by one


def test_cnn_dailymail() -> None:
    articles = [{"id": "aa", "article": "No."}, {"id": "bb", "article": "Rain {today}."}]
    task = row(f"{HUB}/abisee/cnn_dailymail/tree/{COMMIT}", "bb", "Shorten: {article} In short:")
    assert made(task, articles) == ["Shorten: Rain {today}. In short:"]


def test_live_code_bench() -> None:
    problems = [{"question_id": "abc1", "question_content": "Add.", "starter_code": "def f():"}]
    task = row(f"{HUB}/livecodebench/code_generation_lite", "abc1", "{question}\nBegin: {starter_code}")
    assert made(task, problems) == ["Add.\nBegin: def f():"]


def test_code_contests() -> None:
    problems = [{"name": "7_A. Sum", "description": "Add two."}]
    assert made(row(f"{HUB}/deepmind/code_contests", "7_A. Sum", "Do: {question}"), problems) == ["Do: Add two."]


def test_opus_100() -> None:
    pairs = [{"translation": {"en": "No", "nn": "Nei"}}, {"translation": {"en": "Yes", "nn": "Ja"}}]
    task = row(f"{HUB}/Helsinki-NLP/opus-100/tree/{COMMIT}", "opus100_en-nn_1", "In nn: {question[en]}")
    assert made(task, pairs) == ["In nn: Yes"]


def test_role_bench() -> None:
    """As many questions as there are turns, of those that src_id names; the role is not called by name again."""
    questions = [{"role": "Jack", "question": text} for text in ("-", "Jack, who?", "Jack, why?", " Jack, so?", "-")]
    src_id = "_".join(f"rolebench_instruction-generalization_{number}" for number in (1, 2, 3, 4))
    source = f"{HUB}/ZenMoore/RoleBench/tree/{COMMIT}/rolebench-eng"
    task = row(source, src_id, "Be {role_name}, {role_description_and_catchphrases}", num_turns=3)
    assert made(task, questions, [{"Jill": "x", "Jack": "a pirate."}]) == [
        "Be Jack, a pirate.\nJack, who?",
        "why?",
        " so?",
    ]


def test_mt_bench_101() -> None:
    history = [{"user": "Hi.", "bot": "Hello."}, {"user": "Why?", "bot": "So."}]
    task = row("https://raw.example/mtbench101/mt-bench-101/c/mtbench101.jsonl", "mtbench_101_1")
    assert made(task, [{"history": []}, {"history": history}]) == ["Hi.", "Why?"]


def test_chat_rag() -> None:
    messages = [{"role": r, "content": t} for r, t in (("user", "A?"), ("assistant", "B."), ("user", "C?"))]
    conversation = {"ctxs": [{"title": "t", "text": "One."}, {"title": "t", "text": "Two."}], "messages": messages}
    task = row(f"{HUB}/nvidia/ChatRAG-Bench/tree/{COMMIT}/data", "chatrag_bench_0")
    assert made(task, [conversation]) == ["One.\n\nTwo.\n--\nA?", "C?"]


def test_mmlu_pro() -> None:
    questions = [{"question": f"q{i}", "options": ["x", "y"]} for i in range(4)]
    source = f"{HUB}/TIGER-Lab/MMLU-Pro/blob/{COMMIT}/data/test-00000-of-00001.parquet"
    task = row(source, "mmlu_pro_(2, 'law')", num_turns=2, sub_category="law")
    assert made(task, questions) == [
        "On law.\n\nQuestion: q2\n\nOptions: (A) x\n(B) y\n\n",
        "Question: q3\n\nOptions: (A) x\n(B) y\n\n",
    ]


@pytest.mark.parametrize("motivated", [True, False])
def test_coser(motivated: bool) -> None:
    """Of A, B, C the seed draws B. A profile that is not there is left out."""
    assert np.random.default_rng(12347).choice(["A", "B", "C"]) == "B"
    scene = {
        "book": "Book",
        "scenario": "a quay",
        "major_characters": ["A", "B", "C"],
        "character_profiles": {"D": "old", "B": "young", "A": "tall", "C": None},
        "key_characters": [
            {"name": "A", "motivation": "gold"},
            {"name": "B" if motivated else "C", "motivation": "fun"},
        ],
    }
    expected = f"B of Book: young; a quay; D: old\n\nA: tall; {'fun' if motivated else 'none'}"
    assert made(row(f"{HUB}/Neph0s/CoSER/tree/{COMMIT}", "coser_1"), [{}, scene]) == [expected]


def test_hle_qualitative() -> None:
    assert made(row(f"{HUB}/cais/hle/tree/{COMMIT}", "q1"), [{"id": "q0", "question": "?"}, HLE[1]]) == [
        HLE[1]["question"]
    ]


# ---------------------------------------------------------------- sets of a length


@pytest.mark.parametrize(
    ("num_tokens", "expected"),
    [
        (45, "Go on.\n\nSTART CONTENT 1\n\ncc\n\nEND CONTENT\n\nSTA"),
        (74, "Go on.\n\nSTART CONTENT 1\n\ncc\n\nEND CONTENT\n\nSTART CONTENT 2\n\na\n\nEND CONTENT\n"),
        (82, "Go on.\n\nSTART CONTENT 1\n\ncc\n\nEND CONTENT\n\nSTART CONTENT 2\n\na\n\nEND CONTENT\nNow!\nNow"),
    ],
    ids=["cut", "as it is", "filled up"],
)
def test_bamboo(num_tokens: int, expected: str) -> None:
    dialogues = [{"content": text} for text in ("a", "b", "cc")]
    task = row("https://raw.example/RUCAIBox/BAMBOO/c/f.jsonl", "showssort_2_showssort_0")
    assert made(task, dialogues, num_tokens=num_tokens) == [expected]


def stack(answers: list[str], right: str, num_tokens: int) -> str:
    question = {"question_id": "s1", "question": "Why?", "all_answers": answers, "answer": right}
    task = row("https://raw.example/AdaLEval/stackselect_1k.json", "s1")
    return made(task, [question], num_tokens=num_tokens)[0]


def test_stack_select_takes_what_fits_beside_the_right_answer() -> None:
    """Choose, Q, Why, Answers and End have 31 bytes. A1: with two letters has 9; 50 hold the right one and another."""
    text = stack(["aa", "bb", "c" * 40, "dd"], "A1", 50)
    assert text.startswith("Choose.\nQ:\nWhy?\n\nAnswers:\nA1:\n\nbb\n\nA2:\n\naa\n\n"), "two, shuffled"
    assert "c" not in text
    assert "dd" not in text


def test_stack_select_always_has_the_right_answer() -> None:
    text = stack(["aa", "b" * 40, "dd"], "A3", 60)
    assert text == "Choose.\nQ:\nWhy?\n\nAnswers:\nA1:\n\naa\n\nA2:\n\ndd\n\nEnd.\nNow!\nNow!\nN", (
        "b is too long, dd is right"
    )


def test_stack_select_is_cut_to_length() -> None:
    text = stack([letter * 20 for letter in "abcdef"], "A1", 90)
    assert len(text) == 90, "each alone fits beside the right one; together they do not"


def test_text_sort() -> None:
    task = row("https://raw.example/AdaLEval/textsort_1k.json", "textsort_1_1k")
    tasks = [{"prompt": "-"}, {"prompt": "Sort by number.\nPart 1"}]
    assert made(task, tasks, num_tokens=22) == ["Sort by text.\nPart 1No"]


HLE = [
    {
        "id": f"q{i}",
        "question": f"Question {i}?",
        "rationale": f"since {i}",
        "category": "Math" if i % 3 else "Law",
        "image": "data:" if i % 5 == 4 else "",
    }
    for i in range(24)
]


def test_hle_s_halves_are_those_of_the_datasets_library() -> None:
    for num_rows in (24, 23):
        split = Dataset.from_list(HLE[:num_rows]).train_test_split(test_size=0.5, shuffle=True, seed=42)
        assert [r["id"] for r in HLEExamples(Table(HLE[:num_rows]), BYTES).asked] == split["test"]["id"]


def test_hle_s_examples_are_drawn_on_from_row_to_row() -> None:
    """As pandas draws them, one at a time, from the other half's text-only questions of the category."""
    examples = HLEExamples(Table(HLE), BYTES)
    asked = {r["id"] for r in examples.asked}
    left = pd.DataFrame([r for r in HLE if r["id"] not in asked])
    order = np.random.default_rng(42).permutation(len(HLE))[12:]
    left = left.set_index("id").loc[[HLE[i]["id"] for i in order]]
    draws = np.random.default_rng(42)
    pool = left[(left["image"] == "") & (left["category"] == "Math")]
    for question in [r for r in examples.asked if r["category"] == "Math"][:3]:
        text = "Solve, as in Math:\n\n"
        while len(text) + len(question["question"]) < 150:
            drawn = pool.sample(1, random_state=draws).iloc[0]
            text += f"Question: {drawn['question']}\n\nAnswer: {drawn['rationale']}\n\n"
        task = row(f"{HUB}/cais/hle/tree/{COMMIT}", question["id"])
        found = turns.hle_with_examples(task, 150, examples, WORDING, BYTES)
        assert found == [text[: 150 - len(question["question"]) + 1] + question["question"]]


# ---------------------------------------------------------------- what cannot be resolved


def test_every_set_has_a_test_here() -> None:
    assert list(RULES) == [
        *("RUCAIBox/BAMBOO", "abisee/cnn_dailymail", "cais/hle", "livecodebench/code_generation_lite"),
        *("deepmind/code_contests", "mtbench101/mt-bench-101", "Helsinki-NLP/opus-100", "nvidia/ChatRAG-Bench"),
        *("TIGER-Lab/MMLU-Pro", "AdaLEval/stackselect", "AdaLEval/textsort", "ZenMoore/RoleBench", "Neph0s/CoSER"),
    ]


@pytest.mark.parametrize(
    "task",
    [
        row("https://example.org/another/set", "x_1"),
        row(f"{HUB}/ZenMoore/RoleBench/tree/{COMMIT}/rolebench-eng", "nothing"),
        row(f"{HUB}/cais/hle", "x") | {"source": None},
    ],
    ids=["another set", "no such src_id", "no source"],
)
def test_a_row_of_no_known_set_is_refused_by_id(task: dict[str, Any]) -> None:
    with pytest.raises(DatasetError, match=r"1 placeholders belong to sets that cannot be resolved, .*: 0a1b"):
        Resolver([task], None, load=lambda _: Table([]))


@pytest.mark.parametrize(
    ("source", "src_id", "rows"),
    [
        (f"{HUB}/abisee/cnn_dailymail", "gone", [{"id": "a", "article": "b"}]),
        (f"{HUB}/Helsinki-NLP/opus-100", "opus100_en-nn_5", [{"translation": {}}]),
        (f"{HUB}/Helsinki-NLP/opus-100", "opus100_en-nn_-1", [{"translation": {}}]),
        ("https://x/mtbench101/mt-bench-101/f.jsonl", "mtbench_101_0", [{"other": 1}]),
        (f"{HUB}/deepmind/code_contests", "a", [{"name": "a", "description": "d"}]),
    ],
    ids=["no such id", "beyond the end", "negative", "another column", "another template"],
)
def test_what_a_set_does_not_hold_is_named(source: str, src_id: str, rows: Sequence[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match=rf"src_id='{src_id}': cannot be made from {source}"):
        made(row(source, src_id, "{unknown}"), rows)


def test_all_that_is_missing_is_named_at_once() -> None:
    tasks = [
        row(f"{HUB}/cais/hle/tree/{COMMIT}", "q1"),
        row(f"{HUB}/cais/hle/tree/{COMMIT}", "q2"),
        row(f"{HUB}/Neph0s/CoSER/tree/{COMMIT}", "coser_1"),
        row(f"{HUB}/abisee/cnn_dailymail/tree/{COMMIT}", "a"),
        {"turns": ["Not a placeholder."]},
    ]

    def load(need: Need) -> Any:
        if need.name.startswith("abisee"):
            return Table([])
        raise DatasetError(f"{need.name}: gone")

    told: list[str] = []
    with pytest.raises(DatasetError) as caught:
        Resolver(tasks, None, told.append, load)
    words = "NVIDIA/Model-Optimizer datasets/speed.py"
    assert str(caught.value) == (
        "3 of the 4 sources of the placeholders are missing: cais/hle: gone (for 2 prompts); Neph0s/CoSER "
        f"test/test_set.json: gone (for 1 prompts); {words}: gone (for 1 prompts); run prepare where they "
        "are available, and copy the file that it writes"
    )
    assert told == ["cais/hle", "Neph0s/CoSER test/test_set.json", words, "abisee/cnn_dailymail 3.0.0"]


def test_the_revision_is_the_one_that_the_row_names() -> None:
    for source, revision in (
        (f"{HUB}/cais/hle/tree/{COMMIT}", COMMIT),
        (f"{HUB}/cais/hle", "021a3d71f516a7ac28ceb8d284969902edf1edeb"),
    ):
        found = Resolver([row(source, "q1")], None, load=lambda _: Table([]))
        assert found.versions() == {"cais/hle": revision}
