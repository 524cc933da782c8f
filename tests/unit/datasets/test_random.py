"""Lengths, and the ids that are drawn for them."""

import logging
import statistics
from collections import Counter
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from specdec_bench import datasets
from specdec_bench.checkpoints.chat import ChatPrompter
from specdec_bench.checkpoints.prompter import BytePrompter, first_request, first_requests
from specdec_bench.config.schema.dataset import RandomDataset
from specdec_bench.config.schema.model import ModelConfig
from specdec_bench.errors import ConfigError
from specdec_bench.records.request import Prompt, RandomTokens


def lengths(config: RandomDataset) -> list[int]:
    return [p.random_tokens.num_tokens for p in datasets.load(config, seed=0).prompts if p.random_tokens]


def test_every_length_is_the_one_asked_for() -> None:
    config = RandomDataset(num_prompts=3, input_tokens=7, seed=5)
    assert datasets.load(config, seed=0).prompts == [
        Prompt(
            prompt_id=f"random-{i}", category="random", turns=("",), random_tokens=RandomTokens(num_tokens=7, seed=5)
        )
        for i in range(3)
    ]


def test_uniform_lengths_reach_both_ends_and_no_further() -> None:
    config = RandomDataset(num_prompts=1000, input_tokens=10, length_distribution="uniform", length_spread=0.2)
    counts = Counter(lengths(config))
    assert sorted(counts) == [8, 9, 10, 11, 12]
    assert min(counts.values()) > 150, "200 each, give or take 13"


def test_lognormal_lengths_have_the_median_and_the_spread() -> None:
    found = lengths(RandomDataset(num_prompts=4000, input_tokens=1000, length_distribution="lognormal"))
    assert statistics.median(found) == pytest.approx(1000, rel=0.04)
    # One standard deviation of the logarithm, 0.5, above the median: e**0.5 = 1.65.
    assert statistics.quantiles(found, n=1000)[840] == pytest.approx(1648, rel=0.06)
    assert max(lengths(RandomDataset(num_prompts=400, length_distribution="lognormal", max_length=1500))) == 1500


def test_no_prompt_is_empty() -> None:
    config = RandomDataset(num_prompts=200, input_tokens=1, length_distribution="lognormal", length_spread=3.0)
    assert min(lengths(config)) == 1


def test_the_seed_draws_the_lengths_and_a_larger_set_begins_with_the_smaller() -> None:
    def drawn(seed: int, num_prompts: int) -> list[int]:
        return lengths(RandomDataset(num_prompts=num_prompts, seed=seed, length_distribution="uniform"))

    assert drawn(0, 20) == drawn(0, 20)
    assert drawn(0, 20) != drawn(1, 20)
    assert drawn(0, 40)[:20] == drawn(0, 20)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_prompts": None}, r"dataset\.num_prompts=None: say how many"),
        ({"path": "p"}, r"dataset\.path=p: dataset=random has none"),
        ({"length_distribution": "normal"}, "length_distribution=normal: use one of fixed, uniform, lognormal"),
        ({"length_distribution": "uniform", "length_spread": 1.0}, "length_spread=1.0: must be below 1"),
        ({"length_spread": float("nan")}, r"length_spread=nan: must lie in \[0, 4\]$"),
        ({"input_tokens": 0}, "input_tokens=0: must be at least 1"),
    ],
)
def test_what_cannot_be_made_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        RandomDataset(**changes)  # type: ignore[arg-type]


# ---------------------------------------------------------------- the ids


@pytest.fixture
def prompter(tmp_path: Path) -> ChatPrompter:
    """A vocabulary of 20 words, of which 0 and 19 are special and 20 was added."""
    tokenizer = Tokenizer(models.WordLevel({f"w{i}": i for i in range(20)}, unk_token="w0"))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="w0", eos_token="w19", chat_template="{{ messages }}"
    )
    fast.add_tokens(["<think>"])
    fast.save_pretrained(tmp_path)
    return ChatPrompter(ModelConfig(name="m", path=str(tmp_path)))


def random_prompt(num_tokens: int, seed: int = 0, prompt_id: str = "p") -> Prompt:
    tokens = RandomTokens(num_tokens=num_tokens, seed=seed)
    return Prompt(prompt_id=prompt_id, category="random", turns=("",), random_tokens=tokens)


def test_ids_are_uniform_over_the_vocabulary_without_special_and_added_tokens(prompter: ChatPrompter) -> None:
    ids = first_request(prompter, random_prompt(18_000))
    assert len(ids) == 18_000
    counts = Counter(ids)
    assert sorted(counts) == list(range(1, 19))
    assert all(850 < count < 1150 for count in counts.values()), "1,000 each, give or take 31"


def test_ids_depend_on_seed_and_prompt_alone(prompter: ChatPrompter) -> None:
    prompts = [random_prompt(50), random_prompt(50, seed=1), random_prompt(50, prompt_id="q")]
    drawn = first_requests(prompter, prompts)
    assert drawn == first_requests(prompter, prompts)
    assert len(set(drawn)) == 3
    assert drawn[0] == first_request(prompter, random_prompt(60))[:50]


def test_the_draw_of_a_seed_is_frozen() -> None:
    """An archived run names its random prompts by seed and length."""
    assert first_request(BytePrompter(100), random_prompt(6)) == (21, 57, 97, 44, 54, 99)


def test_the_log_says_once_that_random_text_means_little(caplog: pytest.LogCaptureFixture) -> None:
    text = Prompt(prompt_id="t", category="c", turns=("a",))
    with caplog.at_level(logging.WARNING):
        assert first_requests(BytePrompter(256), [text]) == [(97,)]
        assert caplog.messages == []
        first_requests(BytePrompter(256), [random_prompt(2), random_prompt(3)])
    assert len(caplog.messages) == 1
    assert "acceptance on random text says little" in caplog.text
