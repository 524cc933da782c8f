"""What a draft length that follows the batch size may be, and where it is refused."""

from typing import Any

import pytest

from specdec_bench.config import compose
from specdec_bench.config.identity import cell_id
from specdec_bench.config.schema.engine import EngineConfig, SGLangEngine, TransformersEngine, VLLMEngine
from specdec_bench.config.schema.experiment import Expected, ExperimentConfig, may_draft_nothing
from specdec_bench.config.schema.spec import (
    DFlashSpec,
    DraftModelSpec,
    Eagle3Spec,
    EagleSpec,
    MedusaSpec,
    MTPSpec,
    NgramSpec,
    SpecConfig,
    SuffixSpec,
)
from specdec_bench.config.support import check_support
from specdec_bench.errors import ConfigError
from tests.helpers import build
from tests.unit.config.test_identity import TREE

ROWS = [[1, 4, 5], [5, 16, 3], [17, 256, 0]]
HAVE_IT = (NgramSpec, DraftModelSpec, EagleSpec, Eagle3Spec, MTPSpec)


def refusal(make: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        make()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize(
    ("rows", "length", "words"),
    [
        ([], 5, "has 0 rows; give 1 to 1,024"),
        ([[1, 4]], 5, "spec.draft_length_by_batch_size=[1, 4]: has 2 numbers; a row is [from, to, K]"),
        ([[1, 4, 5, 0]], 5, "has 4 numbers"),
        ([[0, 4, 5], [5, 8, 3]], 5, "from=0: must be at least 1"),
        ([[1, 4, 5], [5, 8, -1]], 5, "K=-1: must be at least 0"),
        ([[1, 4, 1025], [5, 8, 3]], 5, "K=1025: must be at most 1,024"),
        ([[1, 65_537, 5]], 5, "to=65537: must be at most 65,536"),
        ([[2, 4, 5], [5, 8, 3]], 5, "=[2, 4, 5]: must begin at 1"),
        ([[1, 4, 5], [6, 8, 3]], 5, "=[6, 8, 3]: must begin at 5"),
        ([[1, 4, 5], [4, 8, 3]], 5, "=[4, 8, 3]: must begin at 5"),
        ([[5, 8, 3], [1, 4, 5]], 5, "=[5, 8, 3]: must begin at 1"),
        ([[1, 4, 5], [5, 4, 3]], 5, "=[5, 4, 3]: must end at 5 or later"),
        ([[1, 4, 5], [5, 8, 5]], 5, "has one draft length; leave it null and set spec.draft_length=5"),
        (
            ROWS,
            3,
            "spec.draft_length=3: must be the largest K of spec.draft_length_by_batch_size; set spec.draft_length=5",
        ),
        (ROWS, 6, "set spec.draft_length=5"),
    ],
)
def test_rows_that_leave_a_batch_size_open_or_contradict_k(rows: list[list[int]], length: int, words: str) -> None:
    assert words in refusal(lambda: NgramSpec(draft_length=length, draft_length_by_batch_size=rows))


def test_rows_that_are_right() -> None:
    spec = NgramSpec(draft_length=5, draft_length_by_batch_size=ROWS)
    assert may_draft_nothing(spec)
    rising = NgramSpec(draft_length=2, draft_length_by_batch_size=[[1, 1, 1], [2, 2, 2]])
    assert not may_draft_nothing(rising)
    assert not may_draft_nothing(NgramSpec())


@pytest.mark.parametrize("kind", HAVE_IT)
def test_vllm_has_it(kind: type[NgramSpec]) -> None:
    check_support(experiment(VLLMEngine(), kind(draft_length=5, draft_length_by_batch_size=ROWS)))


@pytest.mark.parametrize(
    ("engine", "kind", "words"),
    [
        *((VLLMEngine(), kind, "(its drafter of this method makes") for kind in (SuffixSpec, MedusaSpec, DFlashSpec)),
        (SGLangEngine(), Eagle3Spec, "(its adaptive speculation follows the acceptance, rounds"),
        (TransformersEngine(), NgramSpec, "engine=transformers has no such parameter for ngram; leave it null"),
    ],
)
def test_who_lacks_it_says_so(engine: EngineConfig, kind: type[NgramSpec], words: str) -> None:
    told = refusal(lambda: check_support(experiment(engine, kind(draft_length=5, draft_length_by_batch_size=ROWS))))
    assert told.startswith("spec.draft_length_by_batch_size=[[1, 4, 5], [5, 16, 3], [17, 256, 0]]: ")
    assert words in told


@pytest.mark.parametrize(
    ("engine", "spec", "words"),
    [
        ({"data_parallel_size": 2}, {}, "vLLM drops it if engine.data_parallel_size=2"),
        ({}, {"parallel_drafting": True}, "leave it null, or spec.parallel_drafting=false"),
        ({"synthetic_acceptance_length": 2.0}, {}, "set engine.synthetic_acceptance_rates"),
    ],
)
def test_settings_of_vllm_that_do_not_go_with_it(engine: dict[str, Any], spec: dict[str, Any], words: str) -> None:
    made = Eagle3Spec(draft_length=5, draft_length_by_batch_size=ROWS, **spec)
    assert words in refusal(lambda: experiment(VLLMEngine(**engine), made))


@pytest.mark.parametrize("expected", [{"acceptance_length_drafted": 2.5}, {"acceptance_joint": [0.7] * 5}])
def test_values_that_were_published_for_one_draft_length_are_not_expected(expected: dict[str, Any]) -> None:
    spec = NgramSpec(draft_length=5, draft_length_by_batch_size=ROWS)
    made = build.experiment(spec=spec, expected=Expected(**expected))
    assert "the expected values are of one draft length" in refusal(lambda: compose._check_expected(made))


def test_an_archived_one_is_read_as_it_was() -> None:
    made = experiment(VLLMEngine(), Eagle3Spec(draft_length=5, draft_length_by_batch_size=ROWS))
    tree = compose.to_tree(made)
    assert tree["spec"]["draft_length_by_batch_size"] == ROWS
    assert compose.archived_experiment(tree).spec == made.spec


def test_it_is_part_of_the_cell_and_null_leaves_the_cell_what_it_was() -> None:
    def with_rows(rows: list[list[int]] | None) -> str:
        return cell_id({**TREE, "spec": {**TREE["spec"], "draft_length_by_batch_size": rows}}, "prompts", {})

    assert with_rows(None) == cell_id(TREE, "prompts", {})
    assert len({with_rows(rows) for rows in (None, ROWS, ROWS[:2])}) == 3


def experiment(engine: EngineConfig, spec: SpecConfig) -> ExperimentConfig:
    return build.experiment(engine=engine, spec=spec)
