"""A placeholder's turns: one pure function a source set, from the row and the set's rows.

Each takes the SPEED-Bench row, the length of the split's prompts in tokens (None: the qualitative split, which sets
none), then what the set's rule in `rules` names. They raise LookupError, TypeError or ValueError where a set does not
hold what the row says. These functions reproduce even odd choices of NVIDIA's resolver, and say so: the prompts
must be the same.
"""

import math
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

PLACEHOLDER = "FULL BENCHMARK DATA SHOULD BE FETCHED FROM THE SOURCE USING SPECDEC_BENCH"

Row = Mapping[str, Any]


class Wording(NamedTuple):
    """The sentences around what is taken from a set; `wording` reads them from NVIDIA's file."""

    stack_select: str
    stack_select_question: str
    stack_select_answers: str
    stack_select_end: str
    text_sort: str
    """The beginning of the set's own prompts."""
    text_sort_instead: str
    writing: str
    padding: str
    chat_rag: str
    coser: str
    coser_no_motivation: str
    mmlu_pro: str
    hle: str


class Encoding(Protocol):
    """A tiktoken encoding."""

    def encode(self, text: str, *, disallowed_special: tuple[()]) -> list[int]:
        """Returns the text's tokens; special tokens' names are text."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Returns the tokens' text."""


class Table:
    """A set's rows, by number or by the value of a column."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = list(rows)
        self._numbers: dict[str, dict[str, int]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def __getitem__(self, number: int) -> Row:
        """Returns a row; numbers count from 0, and negative ones are refused."""
        if number < 0:
            raise IndexError(f"no row {number}")
        return self._rows[number]

    def find(self, column: str, value: str) -> Row:
        """Returns the first row with the value.

        Raises:
            KeyError: there is none.
        """
        if column not in self._numbers:
            numbers: dict[str, int] = {}
            for number, row in enumerate(self._rows):
                numbers.setdefault(str(row[column]), number)
            self._numbers[column] = numbers
        return self._rows[self._numbers[column][value]]


# ---------------------------------------------------------------- sets whose placeholder holds the template


def cnn_dailymail(row: Row, _: int | None, articles: Table) -> list[str]:
    """An article, in the row's own template. `src_id` is the article's id."""
    return [_template(row).format(article=articles.find("id", row["src_id"])["article"])]


def live_code_bench(row: Row, _: int | None, problems: Table) -> list[str]:
    """A problem and the code to begin with. `src_id` is the question's id."""
    problem = problems.find("question_id", row["src_id"])
    return [_template(row).format(question=problem["question_content"], starter_code=problem["starter_code"])]


def code_contests(row: Row, _: int | None, problems: Table) -> list[str]:
    """A problem's description. `src_id` is the problem's name."""
    return [_template(row).format(question=problems.find("name", row["src_id"])["description"])]


def opus_100(row: Row, _: int | None, pairs: Table) -> list[str]:
    """A sentence to translate. `src_id` is opus100_LANGUAGES_NUMBER; the template picks the language."""
    _, _, number = row["src_id"].split("_")
    return [_template(row).format(question=pairs[int(number)]["translation"])]


def role_bench(row: Row, _: int | None, questions: Table, roles: Table) -> list[str]:
    """Questions to a role, the first one after its description. `src_id` names more questions than there are turns."""
    numbers = [int(number) for number in re.findall(r"_(\d+)", row["src_id"])][: len(row["turns"])]
    asked = [questions[number] for number in numbers]
    role = asked[0]["role"]
    opening = _template(row).format(role_name=role, role_description_and_catchphrases=roles[0][role])
    rest = [other["question"].removeprefix(f"{role}, ").removeprefix(f" {role},") for other in asked[1:]]
    return [f"{opening}\n{asked[0]['question']}", *rest]


# ---------------------------------------------------------------- sets of conversations and questions


def mt_bench_101(row: Row, _: int | None, conversations: Table) -> list[str]:
    """The user's side of a conversation. `src_id` ends in its number."""
    return [exchange["user"] for exchange in conversations[_last_number(row)]["history"]]


def chat_rag(row: Row, _: int | None, conversations: Table, wording: Wording) -> list[str]:
    """The user's questions, the first one below all of the conversation's contexts. `src_id` ends in its number."""
    conversation = conversations[_last_number(row)]
    context = "\n\n".join(part["text"] for part in conversation["ctxs"])
    first, *rest = [message["content"] for message in conversation["messages"] if message["role"] == "user"]
    return [wording.chat_rag.format(context=context, question=first), *rest]


def mmlu_pro(row: Row, _: int | None, questions: Table, wording: Wording) -> list[str]:
    """As many questions as there are turns, one after another in the set. `src_id` is mmlu_pro_(NUMBER, 'SUBJECT')."""
    start = int(row["src_id"].split("(")[1].split(",")[0])
    turns = [_multiple_choice(questions[start + offset]) for offset in range(len(row["turns"]))]
    return [wording.mmlu_pro.format(subject=row["sub_category"]) + turns[0], *turns[1:]]


def _multiple_choice(question: Row) -> str:
    options = "\n".join(f"({chr(ord('A') + index)}) {option}" for index, option in enumerate(question["options"]))
    return f"Question: {question['question']}\n\nOptions: {options}\n\n"


def coser(row: Row, _: int | None, scenes: Table, wording: Wording) -> list[str]:
    """A scene to play, as one of its main characters, always drawn with the same seed. `src_id` is coser_NUMBER.

    The other characters stand in the order of the set's file.
    """
    scene = scenes[int(row["src_id"].split("_")[1])]
    character = str(np.random.default_rng(12347).choice(scene["major_characters"]))
    profiles = scene["character_profiles"]
    others = [f"{name}: {text}" for name, text in profiles.items() if name != character and text is not None]
    motivations = (key["motivation"] for key in scene["key_characters"] if key["name"] == character)
    return [
        wording.coser.format(
            character=character,
            character_profile=profiles[character],
            book_name=scene["book"],
            scenario=scene["scenario"],
            other_character_profiles_str="\n\n".join(others),
            motivation=next(motivations, wording.coser_no_motivation),
        )
    ]


def hle(row: Row, _: int | None, questions: Table) -> list[str]:
    """A question, of the qualitative split. `src_id` is its id."""
    return [questions.find("id", row["src_id"])["question"]]


# ---------------------------------------------------------------- sets that are cut or padded to a length


def bamboo(row: Row, num_tokens: int | None, dialogues: Table, wording: Wording, encoding: Encoding) -> list[str]:
    """Dialogues to continue. `src_id` names their numbers."""
    numbers = [int(number) for number in re.findall(r"_(\d+)", row["src_id"])]
    contents = [
        f"START CONTENT {index}\n\n{dialogues[number]['content']}\n\nEND CONTENT"
        for index, number in enumerate(numbers, start=1)
    ]
    return [_of_length(wording.writing + "\n\n".join(contents) + "\n", num_tokens, wording, encoding)]


def stack_select(row: Row, num_tokens: int | None, questions: Table, wording: Wording, encoding: Encoding) -> list[str]:
    """A question and answers to choose from. `src_id` is the question's id.

    As NVIDIA's: answers are taken until one alone would not fit beside the right one, so their sum may be far more,
    and what is too long is cut. (Before 33bfa8b a right answer beyond those taken was put in front of each of them.)
    """
    assert num_tokens is not None
    found = questions.find("question_id", row["src_id"])
    answers, right = list(found["all_answers"]), int(found["answer"].strip("A")) - 1
    head = wording.stack_select + wording.stack_select_question + found["question"] + "\n\n"
    head += wording.stack_select_answers

    def size(text: str) -> int:
        return len(_tokens(text, encoding))

    always = size(head) + size(wording.stack_select_end) + size(f"{found['answer']}:\n\n{answers[right]}\n\n")
    last = 0
    for index, answer in enumerate(answers):
        if index == right:
            continue
        if always + size(_answer(index, answer)) > num_tokens:
            break
        last = index
    taken = answers[: last + 1] if last >= right else [answers[right], *answers[: last + 1]]
    random.Random(42).shuffle(taken)
    text = head + "".join(_answer(index, answer) for index, answer in enumerate(taken)) + wording.stack_select_end
    return [_of_length(text, num_tokens, wording, encoding)]


def _answer(index: int, answer: str) -> str:
    return f"A{index + 1}:\n\n{answer}\n\n"


def text_sort(row: Row, num_tokens: int | None, tasks: Table, wording: Wording, encoding: Encoding) -> list[str]:
    """Parts of a book to put in order, under another instruction than the set's. `src_id` is textsort_NUMBER..."""
    task = tasks[int(row["src_id"].split("_")[1])]["prompt"]
    return [_of_length(task.replace(wording.text_sort, wording.text_sort_instead, 1), num_tokens, wording, encoding)]


class HLEExamples:
    """The half of HLE that gives examples and the half that is asked, and the draws, which go on from row to row."""

    def __init__(self, rows: Table, encoding: Encoding) -> None:
        order = np.random.default_rng(42).permutation(len(rows))
        num_asked = math.ceil(len(rows) / 2)
        self.asked = Table(rows[int(number)] for number in order[:num_asked])
        self._by_category: dict[str, list[list[int]]] = {}
        for number in order[num_asked:]:
            row = rows[int(number)]
            if row["image"] == "":
                text = f"Question: {row['question']}\n\nAnswer: {row['rationale']}\n\n"
                self._by_category.setdefault(row["category"], []).append(_tokens(text, encoding))
        self._draw = np.random.default_rng(42)

    def draw(self, category: str) -> list[int]:
        """Returns the tokens of one of the category's examples.

        Raises:
            KeyError: it has none.
        """
        examples = self._by_category[category]
        return examples[int(self._draw.choice(len(examples), size=1, replace=False)[0])]


def hle_with_examples(
    row: Row, num_tokens: int | None, examples: HLEExamples, wording: Wording, encoding: Encoding
) -> list[str]:
    """Solved examples of the question's category, cut so that the question still fits. `src_id` is its id."""
    assert num_tokens is not None
    asked = examples.asked.find("id", row["src_id"])
    question = _tokens(asked["question"], encoding)
    tokens = _tokens(f"{wording.hle}{asked['category']}:\n\n", encoding)
    while len(tokens) + len(question) < num_tokens:
        tokens += examples.draw(asked["category"])
    return [encoding.decode(tokens[: num_tokens - len(question) + 1] + question)]


# ---------------------------------------------------------------- what they share


def _template(row: Row) -> str:
    template: str = row["turns"][0]
    return template.removeprefix(f"{PLACEHOLDER}\n\n")


def _last_number(row: Row) -> int:
    return int(row["src_id"].rsplit("_", 1)[1])


def _tokens(text: str, encoding: Encoding) -> list[int]:
    return encoding.encode(text, disallowed_special=())


def _of_length(text: str, num_tokens: int | None, wording: Wording, encoding: Encoding) -> str:
    """Returns the text cut, or filled up with the padding's sentence, to the length in tokens.

    Encoded again it may have another length: tokens may join where it was cut.
    """
    assert num_tokens is not None
    tokens = _tokens(text, encoding)
    if len(tokens) == num_tokens:
        return text
    if len(tokens) < num_tokens:
        times = math.ceil((num_tokens - len(tokens)) / len(_tokens(wording.padding, encoding)))
        tokens = _tokens(text + wording.padding * times, encoding)
    return encoding.decode(tokens[:num_tokens])
