"""What each method and setting is called in SGLang."""

import dataclasses
from typing import Any

import msgspec
import pytest

from specdec_bench.config.schema.engine import SGLangEngine
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.config.schema.model import DraftCheckpoint, ModelConfig
from specdec_bench.config.schema.spec import (
    DFlashSpec,
    DraftModelSpec,
    DSparkSpec,
    Eagle3Spec,
    EagleSpec,
    MTPSpec,
    NgramSpec,
    NoSpec,
    SpecConfig,
)
from specdec_bench.engines.sglang import arguments
from specdec_bench.errors import ConfigError, EngineUnavailableError
from tests.helpers import build

DRAFT = DraftCheckpoint(path="org/draft", revision="abc")
ALGORITHMS = ["EAGLE", "EAGLE3", "NEXTN", "STANDALONE", "NGRAM", "DFLASH", "DSPARK"]
MATCH_WINDOW = {"speculative_ngram_min_match_window_size", "speculative_ngram_max_match_window_size"}
KNOWN = (arguments.SETTINGS.keys() | arguments.FIXED.keys()) - MATCH_WINDOW - {"cuda_graph_max_bs"}
"""The fields of SGLang 0.5.16's ServerArgs that are used."""


def experiment(spec: SpecConfig, **engine: Any) -> ExperimentConfig:
    return build.experiment(
        engine=SGLangEngine(**engine),
        model=ModelConfig(name="m", path="org/target", revision="def", dtype="bfloat16", max_seq_len=4096),
        spec=spec,
    )


def told(spec: SpecConfig, **engine: Any) -> dict[str, Any]:
    return arguments.engine_arguments(experiment(spec, **engine), KNOWN, ALGORITHMS)


PLAIN = {
    "model_path": "org/target",
    "revision": "def",
    "dtype": "bfloat16",
    "context_length": 4096,
    "trust_remote_code": False,
    "tp_size": 2,
    "pp_size": 1,
    "dp_size": 1,
    "ep_size": 1,
    "max_running_requests": 64,
    "cuda_graph_max_bs_decode": 64,
    "disable_radix_cache": True,
    "disable_cuda_graph": False,
    "mem_fraction_static": 0.7,
    "attention_backend": "triton",
    "skip_tokenizer_init": True,
    "stream_interval": 1,
    "random_seed": 0,
    "log_level": "warning",
}
SETTINGS = {
    "tensor_parallel_size": 2,
    "max_num_seqs": 64,
    "gpu_memory_utilization": 0.7,
    "attention_backend": "triton",
}


def chain(algorithm: str, steps: int, tokens: int) -> dict[str, Any]:
    return {
        "speculative_algorithm": algorithm,
        "speculative_num_steps": steps,
        "speculative_eagle_topk": 1,
        "speculative_num_draft_tokens": tokens,
        "speculative_draft_model_path": "org/draft",
        "speculative_draft_model_revision": "abc",
    }


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (NoSpec(), {}),
        # K drafts and the token that is verified beside them.
        (DraftModelSpec(draft_length=3, draft=DRAFT), chain("STANDALONE", 3, 4)),
        (EagleSpec(draft_length=2, draft=DRAFT), chain("EAGLE", 2, 3)),
        (Eagle3Spec(draft_length=5, draft=DRAFT), chain("EAGLE3", 5, 6)),
        (MTPSpec(draft_length=1, draft=DRAFT), chain("NEXTN", 1, 2)),
        (DFlashSpec(draft_length=15, draft=DRAFT), chain("DFLASH", 1, 16)),
        (DSparkSpec(draft_length=7, draft=DRAFT), chain("DSPARK", 1, 8) | {"speculative_dspark_block_size": 7}),
        # The target's own layers.
        (
            MTPSpec(draft_length=3),
            {
                "speculative_algorithm": "NEXTN",
                "speculative_num_steps": 3,
                "speculative_eagle_topk": 1,
                "speculative_num_draft_tokens": 4,
            },
        ),
        # A tree: 5 deep, 8 branches, 32 tokens.
        (
            Eagle3Spec(draft_length=5, topk=8, num_draft_tokens=32, draft=DRAFT),
            chain("EAGLE3", 5, 32) | {"speculative_eagle_topk": 8},
        ),
        (
            NgramSpec(draft_length=4, ngram_max=3),
            {
                "speculative_algorithm": "NGRAM",
                "speculative_num_draft_tokens": 5,
                "speculative_ngram_max_bfs_breadth": 1,
                "speculative_ngram_max_trie_depth": 7,
            },
        ),
        (
            NgramSpec(draft_length=8, ngram_max=10, topk=10, num_draft_tokens=12),
            {
                "speculative_algorithm": "NGRAM",
                "speculative_num_draft_tokens": 12,
                "speculative_ngram_max_bfs_breadth": 10,
                "speculative_ngram_max_trie_depth": 18,
            },
        ),
    ],
)
def test_methods(spec: SpecConfig, expected: dict[str, Any]) -> None:
    """A speculative cell differs from its plain one in the method's arguments and in nothing else."""
    assert told(spec, **SETTINGS) == PLAIN | expected


def test_older_releases_name_things_differently() -> None:
    known = KNOWN - {"speculative_ngram_max_trie_depth", "cuda_graph_max_bs_decode"} | MATCH_WINDOW
    found = arguments.engine_arguments(
        experiment(NgramSpec(draft_length=4), max_num_seqs=8), known | {"cuda_graph_max_bs"}, ["LOOKAHEAD"]
    )
    assert found["cuda_graph_max_bs"] == 8
    assert {name: value for name, value in found.items() if name.startswith("speculative")} == {
        "speculative_algorithm": "LOOKAHEAD",
        "speculative_num_draft_tokens": 5,
        "speculative_ngram_max_bfs_breadth": 1,
        "speculative_ngram_min_match_window_size": 1,
        "speculative_ngram_max_match_window_size": 3,
    }


@pytest.mark.parametrize("spec", [NoSpec(), Eagle3Spec(draft=DRAFT), DraftModelSpec(draft=DRAFT)])
def test_a_draft_model_is_said_to_lack_the_prompts_first_token(spec: SpecConfig) -> None:
    assert [("without its first token" in note) for note in arguments.notes(spec)] == [True] * (
        spec.name == "draft_model"
    )


def test_what_the_release_lacks_is_refused_by_name() -> None:
    with pytest.raises(EngineUnavailableError, match=r"spec=dflash: the installed SGLang has no DFLASH; .*0\.5\.11"):
        arguments.engine_arguments(experiment(DFlashSpec(draft=DRAFT)), KNOWN, ["EAGLE"])
    with pytest.raises(EngineUnavailableError, match=r"spec=dspark: the installed SGLang has no DSPARK; .*0\.5\.16"):
        arguments.engine_arguments(experiment(DSparkSpec(draft=DRAFT)), KNOWN, ["EAGLE"])
    with pytest.raises(EngineUnavailableError, match=r"engine\.sampling_backend: the installed SGLang has no"):
        arguments.engine_arguments(experiment(NoSpec(), sampling_backend="x"), KNOWN - {"sampling_backend"}, [])


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("cuda_graph_max_bs", "use engine.max_num_seqs"),
        ("speculative_num_steps", "use spec.draft_length"),
        ("skip_tokenizer_init", "needs it as True"),
        ("schedule_polcy", "did you mean schedule_policy"),
        ("zzz", "see SGLang's ServerArgs"),
    ],
)
def test_extra_arguments_are_refused_by_name(key: str, words: str) -> None:
    with pytest.raises(ConfigError, match=rf"engine\.extra_args\.{key}.*{words}"):
        arguments.EXTRA_ARGUMENTS.check({key: 1}, ["schedule_policy"], "1.2.3")


def test_known_extra_arguments_are_passed() -> None:
    assert arguments.EXTRA_ARGUMENTS.check({"schedule_policy": "fcfs"}, ["schedule_policy"], "1") == {
        "schedule_policy": "fcfs"
    }


def test_drafts_of_a_step() -> None:
    assert arguments.proposed_per_step(experiment(NoSpec())) is None
    assert arguments.proposed_per_step(experiment(NgramSpec())) is None  # SGLang fills up what it did not find
    assert arguments.proposed_per_step(experiment(Eagle3Spec(draft_length=3, draft=DRAFT))) == 3
    tree = Eagle3Spec(draft_length=3, topk=2, num_draft_tokens=7, draft=DRAFT)
    assert arguments.proposed_per_step(experiment(tree)) == 6


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"topk": 4}, r"spec.topk=4: .*spec.num_draft_tokens"),
        ({"num_draft_tokens": 3}, r"spec.num_draft_tokens=3: must be at least spec.draft_length \+ 1 = 4"),
    ],
)
def test_trees_that_cannot_be(options: dict[str, int], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Eagle3Spec(draft_length=3, **options)


def test_the_fields_of_a_dataclass_and_of_a_struct() -> None:
    """ServerArgs was the one up to 0.5.16 and is the other in 0.5.20."""

    @dataclasses.dataclass
    class Older:
        model_path: str = ""
        tp_size: int = 1

    class Newer(msgspec.Struct):
        model_path: str = ""
        tp_size: int = 1

    for record in (Older, Older(), Newer, Newer()):
        assert arguments.field_names(record) == ["model_path", "tp_size"]


@pytest.mark.parametrize(
    ("spec", "forced", "is_synthetic"),
    [
        (Eagle3Spec(draft=DRAFT), "2.5", True),
        (Eagle3Spec(draft=DRAFT), "-1", False),
        (Eagle3Spec(draft=DRAFT), "", False),
        (Eagle3Spec(draft=DRAFT), None, False),
        (NoSpec(), "2.5", False),
    ],
)
def test_an_acceptance_length_that_the_environment_forces_is_told(
    spec: SpecConfig, forced: str | None, is_synthetic: bool
) -> None:
    environment = {} if forced is None else {"SGLANG_SIMULATE_ACC_LEN": forced}
    stamp = arguments.synthetic_stamp(experiment(spec), environment)
    assert stamp == ("SGLang accepted drafts at random: SGLANG_SIMULATE_ACC_LEN=2.5" if is_synthetic else None)
