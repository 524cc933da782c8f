"""Every number of the schema has bounds, and they are kept."""

import math
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, get_args, get_type_hints

import pytest

from specdec_bench.config.schema.dataset import JsonlDataset
from specdec_bench.config.schema.engine import SyntheticEngine
from specdec_bench.config.schema.experiment import OPTIONS, OPTIONS_AROUND, Expected, ExperimentConfig, SweepConfig
from specdec_bench.config.schema.model import ModelConfig
from specdec_bench.config.schema.ranges import PROPER_SHARE, SHARE, FreeText, Range, Rows, bounds, shortened
from specdec_bench.config.schema.sampling import SamplingConfig
from specdec_bench.config.schema.spec import Eagle3Spec, NgramSpec
from specdec_bench.errors import ConfigError

SCHEMAS = sorted(
    {schema for options in (OPTIONS | OPTIONS_AROUND).values() for schema in options.values()}
    | {Expected, ExperimentConfig, SweepConfig},
    key=lambda schema: schema.__name__,
)


def parts(hint: Any) -> Iterator[Any]:
    """Yields a type and those that it is made of: int of `list[int] | None`."""
    yield hint
    for part in get_args(hint):
        yield from parts(part)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_every_number_has_bounds_beside_it(schema: type) -> None:
    hints, declared = get_type_hints(schema), bounds(schema)
    numbers = [field.name for field in fields(schema) if {int, float} & set(parts(hints[field.name]))]
    assert [name for name in numbers if not isinstance(declared[name], Range | Rows)] == []


@pytest.mark.parametrize("schema", SCHEMAS)
def test_bounds_are_finite_and_an_upper_one_says_why(schema: type) -> None:
    for name, declared in bounds(schema).items():
        columns = [bound for _, bound in declared.columns] if isinstance(declared, Rows) else [declared]
        for bound in columns:
            if isinstance(bound, Range):
                assert -math.inf < bound.least < bound.most < math.inf, name
                assert bound.reason or (bound.least, bound.most) == (0, 1), name


@pytest.mark.parametrize(
    ("value", "of_share", "of_proper_share"),
    [(0, False, False), (0.5, True, True), (1, True, False), (1.5, False, False), (math.nan, False, False)],
)
def test_a_bound_is_part_of_its_range_or_not(value: float, of_share: bool, of_proper_share: bool) -> None:
    for bound, is_within in ((SHARE, of_share), (PROPER_SHARE, of_proper_share)):
        if is_within:
            bound.check("key", value)
        else:
            with pytest.raises(ConfigError, match=r"^key=.*: must .*"):
                bound.check("key", value)


def test_both_bounds_can_be_given_and_neither_be_passed() -> None:
    assert NgramSpec(draft_length=1).draft_length == 1
    assert NgramSpec(draft_length=1024).draft_length == 1024
    with pytest.raises(ConfigError, match=r"^spec\.draft_length=0: must be at least 1$"):
        NgramSpec(draft_length=0)
    with pytest.raises(ConfigError, match=r"^spec\.draft_length=1025: must be at most 1,024; a verify step"):
        NgramSpec(draft_length=1025)
    with pytest.raises(ConfigError, match=r"^seed=9223372036854775808: must be at most 9,223,372,036,854,775,807; "):
        ExperimentConfig(seed=2**63)


def test_numbers_beyond_floating_point_are_compared_all_the_same() -> None:
    with pytest.raises(ConfigError, match="must be at most"):
        SamplingConfig(max_new_tokens=10**400)


def test_bounds_hold_for_each_entry_of_a_list() -> None:
    with pytest.raises(ConfigError, match=r"^sampling\.stop_token_ids=-1: must be at least 0"):
        SamplingConfig(stop_token_ids=[5, -1])
    with pytest.raises(ConfigError, match=r"acceptance_rates=1\.5: must lie in \[0, 1\]$"):
        SyntheticEngine(acceptance_rates=[0.5, 1.5])
    SamplingConfig(stop_token_ids=list(range(1024)))
    with pytest.raises(ConfigError, match=r"has 1,025 entries; give at most 1,024$") as refusal:
        SamplingConfig(stop_token_ids=list(range(1025)))
    assert len(str(refusal.value)) < 250


def test_a_list_within_a_list_of_numbers_is_no_number() -> None:
    with pytest.raises(ConfigError, match="a list within the list"):
        SamplingConfig(stop_token_ids=[[1]])  # type: ignore[list-item]


@pytest.mark.parametrize("text", ["a\0b", "a\nb", "a\x1b[31mb", "\x7f", "\ud800", "x" * 4097])
def test_a_name_or_path_is_one_line_of_text(text: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        JsonlDataset(path=text)
    assert str(refusal.value).startswith("dataset.path=")
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 300


def test_a_template_s_text_may_have_lines_and_any_length() -> None:
    text = "{{ messages }}\n" * 1000
    model = ModelConfig(name="m", path="p", chat_template=text)
    assert isinstance(bounds(ModelConfig)["chat_template"], FreeText)
    assert ExperimentConfig(model=model).model.chat_template == text


def test_an_option_keeps_its_name() -> None:
    with pytest.raises(
        ConfigError, match=r"^spec\.name=none: is fixed by spec=ngram; choose another option by spec=NAME$"
    ):
        NgramSpec(name="none")
    assert ModelConfig(name="mine", path="p").name == "mine"


@pytest.mark.parametrize(
    ("topk", "tokens", "words"),
    [
        (None, 4, None),  # the root and three drafts
        (1, 4, None),
        (None, 5, r"a chain of spec\.draft_length=3 has 4 with its root"),
        (1, 5, r"a chain of spec\.draft_length=3 has 4 with its root"),
        (2, 3, r"at least spec\.draft_length \+ 1 = 4"),
        (2, 15, None),  # 1 + 2 + 4 + 8
        (2, 16, "has at most 15"),
        (4, None, r"spec\.topk=4: say how many tokens"),
    ],
)
def test_a_tree_verifies_as_many_tokens_as_it_can_have(topk: int | None, tokens: int | None, words: str | None) -> None:
    if words is None:
        assert Eagle3Spec(draft_length=3, topk=topk, num_draft_tokens=tokens).num_draft_tokens == tokens
        return
    with pytest.raises(ConfigError, match=words):
        Eagle3Spec(draft_length=3, topk=topk, num_draft_tokens=tokens)


def test_long_values_are_quoted_by_their_beginning() -> None:
    assert shortened("x" * 120) == "x" * 120
    assert shortened("x" * 2000) == "x" * 120 + "... (2,000 characters)"
