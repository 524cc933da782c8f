"""How vLLM is told of a draft length that follows the batch size, and what it makes of it."""

from typing import Any

import pytest

from specdec_bench.config.schema.engine import VLLMEngine
from specdec_bench.config.schema.spec import NgramSpec, SpecConfig
from specdec_bench.engines.vllm import arguments
from specdec_bench.errors import ConfigError, EngineUnavailableError
from tests.helpers import build

ROWS = [[1, 4, 5], [5, 16, 3], [17, 256, 0]]
FIXED, FOLLOWING = NgramSpec(draft_length=5), NgramSpec(draft_length=5, draft_length_by_batch_size=ROWS)


def told(spec: SpecConfig) -> dict[str, Any]:
    found = arguments.speculative_config(build.experiment(engine=VLLMEngine(), spec=spec))
    assert found is not None
    return found


def test_vllm_gets_the_rows_and_the_largest_draft_length() -> None:
    assert told(FOLLOWING) == {**told(FIXED), "num_speculative_tokens_per_batch_size": ROWS}
    assert told(FOLLOWING)["num_speculative_tokens"] == 5


def test_vllm_reads_the_rows_as_they_are_meant() -> None:
    """The first and the last batch size of each row, and one beyond the last row."""
    from vllm.v1.spec_decode.dynamic import utils

    rows = told(FOLLOWING)["num_speculative_tokens_per_batch_size"]
    lengths = utils.build_dynamic_sd_schedule_lookup(rows, 300, 5)
    assert [lengths[size] for size in (1, 4, 5, 16, 17, 256, 257, 300)] == [5, 5, 3, 3, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("spec", "got"),
    [(FOLLOWING, [(1, 4, 5), (5, 16, 3), (17, 256, 0)]), (FOLLOWING, ROWS), (FIXED, None)],
)
def test_what_was_asked_for_passes(spec: SpecConfig, got: Any) -> None:
    arguments.check_batch_sizes(spec, {"num_speculative_tokens_per_batch_size": got})


@pytest.mark.parametrize(("spec", "got"), [(FOLLOWING, None), (FOLLOWING, [(1, 4, 5)]), (FIXED, [(1, 4, 5)])])
def test_another_draft_length_than_the_label_says_is_refused(spec: SpecConfig, got: Any) -> None:
    with pytest.raises(ConfigError, match=r"^spec\.draft_length_by_batch_size=.*: vLLM runs with .*; set it to that"):
        arguments.check_batch_sizes(spec, {"num_speculative_tokens_per_batch_size": got})


def test_a_release_without_it_is_refused() -> None:
    known = [name for name in told(FOLLOWING) if name != "num_speculative_tokens_per_batch_size"]
    with pytest.raises(EngineUnavailableError, match=r"leave spec\.draft_length_by_batch_size null"):
        arguments.check_method("ngram", [], known, told(FOLLOWING))
