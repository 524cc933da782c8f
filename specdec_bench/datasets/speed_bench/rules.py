"""Which function makes a source set's turns, and what it needs. Keyed by what a row's `source` contains."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from specdec_bench.datasets.speed_bench import turns
from specdec_bench.datasets.speed_bench.sources import HLEHalves, HubFiles, HubRows, Need, Tokens, WebFile, Words

Row = dict[str, Any]
WORDS, TOKENS = Words(), Tokens()


class Rule(NamedTuple):
    """How one set's placeholders are resolved."""

    turns: Callable[..., list[str]]
    """Called with the row, the length of the split's prompts, and what `needs` names, loaded."""
    needs: Callable[[Row, int | None], tuple[Need, ...]]


def _hub(repository: str, revision: str, columns: str, *configurations: str, words: bool = False) -> Any:
    def needs(row: Row, _: int | None) -> tuple[Need, ...]:
        rows = HubRows(repository, _revision(row, revision), tuple(columns.split()), configurations or (None,))
        return (rows, WORDS) if words else (rows,)

    return needs


def _web(*more: Need) -> Any:
    """Returns the needs of a set whose rows name their file themselves."""
    return lambda row, _: (WebFile(row["source"]), *more)


def _opus_100(row: Row, num_tokens: int | None) -> tuple[Need, ...]:
    languages = row["src_id"].split("_")[1]
    needs = _hub("Helsinki-NLP/opus-100", "805090dc28bf78897da9641cdf08b61287580df9", "translation", languages)
    found: tuple[Need, ...] = needs(row, num_tokens)
    return found


def _live_code_bench(row: Row, _: int | None) -> tuple[Need, ...]:
    files = tuple(f"test{number}.jsonl" for number in ("", 2, 3, 4, 5, 6))
    revision = _revision(row, "0fe84c3912ea0c4d4a78037083943e8f0c4dd505")
    columns = ("question_id", "question_content", "starter_code")
    return (HubFiles("livecodebench/code_generation_lite", revision, files, columns),)


def _role_bench(row: Row, _: int | None) -> tuple[Need, ...]:
    kind, revision = row["src_id"].split("_")[1], _revision(row, "a57ed54f9613921e4a5f1b63601a558cd5acf971")
    return (
        HubFiles("ZenMoore/RoleBench", revision, (f"rolebench-eng/{kind}/role_specific/test.jsonl",)),
        HubFiles("ZenMoore/RoleBench", revision, ("profiles-eng/desc.json",)),
    )


def _coser(row: Row, _: int | None) -> tuple[Need, ...]:
    revision = _revision(row, "7cc80430f92532cda85df45015a4aca8ecc068d0")
    return HubFiles("Neph0s/CoSER", revision, ("test/test_set.json",)), WORDS


def _hle(row: Row, num_tokens: int | None) -> tuple[Need, ...]:
    revision = _revision(row, "021a3d71f516a7ac28ceb8d284969902edf1edeb")
    rows = HubRows("cais/hle", revision, ("id", "question", "rationale", "category", "image"))
    return (rows,) if num_tokens is None else (HLEHalves(rows), WORDS, TOKENS)


def _hle_turns(row: Row, num_tokens: int | None, *found: Any) -> list[str]:
    return (turns.hle if num_tokens is None else turns.hle_with_examples)(row, num_tokens, *found)


def _revision(row: Row, otherwise: str) -> str:
    """Returns the commit that the row's source names, or the one that NVIDIA's resolver takes."""
    found = re.search(r"\b[0-9a-f]{40}\b", row["source"])
    return found[0] if found else otherwise


RULES = {
    "RUCAIBox/BAMBOO": Rule(turns.bamboo, _web(WORDS, TOKENS)),
    "abisee/cnn_dailymail": Rule(
        turns.cnn_dailymail,
        _hub("abisee/cnn_dailymail", "96df5e686bee6baa90b8bee7c28b81fa3fa6223d", "id article", "3.0.0"),
    ),
    "cais/hle": Rule(_hle_turns, _hle),
    "livecodebench/code_generation_lite": Rule(turns.live_code_bench, _live_code_bench),
    "deepmind/code_contests": Rule(
        turns.code_contests,
        _hub("deepmind/code_contests", "802411c3010cb00d1b05bad57ca77365a3c699d6", "name description"),
    ),
    "mtbench101/mt-bench-101": Rule(turns.mt_bench_101, _web()),
    "Helsinki-NLP/opus-100": Rule(turns.opus_100, _opus_100),
    "nvidia/ChatRAG-Bench": Rule(
        turns.chat_rag,
        _hub(
            "nvidia/ChatRAG-Bench",
            "af6c7d420ddddf21f54f8ab3394bbf462aad2577",
            "ctxs messages",
            "hybridial",
            "sqa",
            words=True,
        ),
    ),
    "TIGER-Lab/MMLU-Pro": Rule(
        turns.mmlu_pro,
        _hub("TIGER-Lab/MMLU-Pro", "30527804ea8854662078e457808040d872ecdf29", "question options", words=True),
    ),
    "AdaLEval/stackselect": Rule(turns.stack_select, _web(WORDS, TOKENS)),
    "AdaLEval/textsort": Rule(turns.text_sort, _web(WORDS, TOKENS)),
    "ZenMoore/RoleBench": Rule(turns.role_bench, _role_bench),
    "Neph0s/CoSER": Rule(turns.coser, _coser),
}
