"""What each method and setting is called in TensorRT-LLM, in the release that was read and in a later one."""

from typing import Any

import pytest

from specdec_bench.config.schema.engine import AutoDeployEngine, LLMAPIEngine, TensorRTLLMEngine
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.config.schema.model import DraftCheckpoint, ModelConfig
from specdec_bench.config.schema.sampling import SamplingConfig
from specdec_bench.config.schema.spec import DraftModelSpec, Eagle3Spec, MTPSpec, NgramSpec, NoSpec, SpecConfig
from specdec_bench.config.support import check_support
from specdec_bench.engines.tensorrt_llm import arguments
from specdec_bench.engines.tensorrt_llm.arguments import Release
from specdec_bench.errors import ConfigError, EngineUnavailableError
from tests.helpers import build
from tests.stand_ins.signatures import field_names, load

DRAFT = DraftCheckpoint(path="org/draft")


def release(llm_args: str = "TorchLlmArgs", decoding: str = "tensorrt_llm.json") -> Release:
    """The release that was read; `decoding` may give it the decoding configs of a later one."""
    classes, drafters = load("tensorrt_llm.json"), load(decoding)
    found = {name: classes if "Decoding" not in name else drafters for name in arguments.CLASSES}
    return Release(
        version="R",
        known=field_names(classes, llm_args),
        fields={name: field_names(of, name) for name, of in found.items() if name in of},
    )


NOW, LATER = release(), release(decoding="tensorrt_llm_later.json")


def experiment(spec: SpecConfig, engine: LLMAPIEngine | None = None, **sampling: Any) -> ExperimentConfig:
    return build.experiment(
        engine=engine or TensorRTLLMEngine(max_num_seqs=64),
        model=ModelConfig(name="m", path="org/target", revision="def", dtype="bfloat16", max_seq_len=4096),
        spec=spec,
        sampling=SamplingConfig(**sampling),
    )


PLAIN = {
    "model": "org/target",
    "revision": "def",
    "dtype": "bfloat16",
    "max_seq_len": 4096,
    "trust_remote_code": False,
    "max_batch_size": 64,
    "tensor_parallel_size": 1,
    "pipeline_parallel_size": 1,
    "moe_expert_parallel_size": 1,
    "kv_cache_config": {"KvCacheConfig": {"enable_block_reuse": False}},
    "cuda_graph_config": {"CudaGraphConfig": {"max_batch_size": 64, "enable_padding": True}},
    "skip_tokenizer_init": True,
    "stream_interval": 1,
}
WITHOUT_OVERLAP = {"disable_overlap_scheduler": True}


@pytest.mark.parametrize(
    ("spec", "installed", "expected"),
    [
        (NoSpec(), NOW, {}),
        (
            NgramSpec(draft_length=4, ngram_max=5),
            NOW,
            WITHOUT_OVERLAP
            | {
                "speculative_config": {
                    "NGramDecodingConfig": {"max_draft_len": 4, "max_matching_ngram_size": 5, "is_public_pool": False}
                }
            },
        ),
        (
            DraftModelSpec(draft_length=3, draft=DRAFT),
            NOW,
            WITHOUT_OVERLAP
            | {
                "speculative_config": {
                    "DraftTargetDecodingConfig": {"max_draft_len": 3, "speculative_model_dir": "org/draft"}
                }
            },
        ),
        (
            Eagle3Spec(draft_length=5, draft=DRAFT),
            NOW,
            {"speculative_config": {"EagleDecodingConfig": {"max_draft_len": 5, "speculative_model_dir": "org/draft"}}},
        ),
        (
            Eagle3Spec(draft_length=5, draft=DRAFT),
            LATER,
            {"speculative_config": {"Eagle3DecodingConfig": {"max_draft_len": 5, "speculative_model": "org/draft"}}},
        ),
        (
            MTPSpec(draft_length=2),
            NOW,
            {"speculative_config": {"MTPDecodingConfig": {"num_nextn_predict_layers": 2}}},
        ),
        # PARD drafts within the target's model, so the overlap scheduler stays.
        (
            DraftModelSpec(draft_length=8, draft=DRAFT, parallel_drafting=True),
            LATER,
            {"speculative_config": {"PARDDecodingConfig": {"max_draft_len": 8, "speculative_model": "org/draft"}}},
        ),
    ],
)
def test_methods(spec: SpecConfig, installed: Release, expected: dict[str, Any]) -> None:
    """A speculative cell differs from its plain one in the method's arguments and in nothing else."""
    assert arguments.engine_arguments(experiment(spec), installed) == PLAIN | expected


def test_settings() -> None:
    engine = TensorRTLLMEngine(
        tensor_parallel_size=4,
        pipeline_parallel_size=2,
        expert_parallel_size=4,
        max_num_seqs=8,
        max_num_batched_tokens=2048,
        enable_prefix_caching=True,
        enforce_eager=True,
        gpu_memory_utilization=0.5,
        attention_backend="FLASHINFER",
        disable_overlap_scheduler=True,
    )
    assert arguments.engine_arguments(experiment(NoSpec(), engine), NOW) == PLAIN | {
        "tensor_parallel_size": 4,
        "pipeline_parallel_size": 2,
        "moe_expert_parallel_size": 4,
        "max_batch_size": 8,
        "max_num_tokens": 2048,
        "kv_cache_config": {"KvCacheConfig": {"enable_block_reuse": True, "free_gpu_memory_fraction": 0.5}},
        "cuda_graph_config": None,  # left out it would mean the default graphs
        "attn_backend": "FLASHINFER",
        "disable_overlap_scheduler": True,
    }


def test_auto_deploy_has_names_of_its_own() -> None:
    engine = AutoDeployEngine(world_size=2, max_num_seqs=6, gpu_memory_utilization=0.5)
    found = arguments.engine_arguments(experiment(NoSpec(), engine), release("LlmArgs"))
    assert found == {
        "model": "org/target",
        "revision": "def",
        "dtype": "bfloat16",
        "max_seq_len": 4096,
        "trust_remote_code": False,
        "max_batch_size": 6,
        "world_size": 2,
        "free_mem_ratio": 0.5,
        "kv_cache_config": {"KvCacheConfig": {"enable_block_reuse": False}},
        "cuda_graph_batch_sizes": [1, 2, 4, 6],
        "skip_tokenizer_init": True,
    }
    # Later releases have those of the PyTorch backend beside world_size.
    known = field_names(load("tensorrt_llm.json"), "TorchLlmArgs") | {"world_size"}
    later = Release(version="R", known=known, fields=NOW.fields)
    found = arguments.engine_arguments(experiment(NoSpec(), engine), later)
    assert found["cuda_graph_config"] == {"CudaGraphConfig": {"max_batch_size": 6, "enable_padding": True}}
    assert found["kv_cache_config"]["KvCacheConfig"]["free_gpu_memory_fraction"] == 0.5
    assert not found.keys() & {"free_mem_ratio", "cuda_graph_batch_sizes"}


@pytest.mark.parametrize(("largest", "sizes"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 2, 4, 8])])
def test_graph_sizes(largest: int, sizes: list[int]) -> None:
    assert arguments._graph_sizes(largest) == sizes


def test_what_the_release_lacks_is_refused_by_name() -> None:
    pard = DraftModelSpec(draft=DRAFT, parallel_drafting=True)
    with pytest.raises(EngineUnavailableError, match=r"spec\.parallel_drafting=true: TensorRT-LLM R has no PARDDecod"):
        arguments.engine_arguments(experiment(pard), NOW)
    engine = TensorRTLLMEngine(max_num_seqs=1, allow_advanced_sampling=True)
    with pytest.raises(
        EngineUnavailableError, match=r"spec=eagle3: .* no allow_advanced_sampling in its EagleDecoding"
    ):
        arguments.engine_arguments(experiment(Eagle3Spec(draft=DRAFT), engine), NOW)
    without = Release(version="R", known=set(NOW.known) - {"attn_backend"}, fields=NOW.fields)
    chosen = TensorRTLLMEngine(max_num_seqs=1, attention_backend="x")
    with pytest.raises(EngineUnavailableError, match=r"engine\.attention_backend: TensorRT-LLM R has no attn_backend"):
        arguments.engine_arguments(experiment(NoSpec(), chosen), without)


def test_sampling_with_a_drafter_in_the_target_is_asked_for_by_name() -> None:
    spec = Eagle3Spec(draft=DRAFT)
    with pytest.raises(ConfigError, match=r"sampling\.temperature=0\.7: engine=tensorrt_llm takes only 0 for spec=eag"):
        check_support(experiment(spec, temperature=0.7))
    check_support(experiment(spec))
    check_support(experiment(NgramSpec(), temperature=0.7))
    engine = TensorRTLLMEngine(max_num_seqs=1, allow_advanced_sampling=True)
    check_support(experiment(spec, engine, temperature=0.7))
    told = arguments.engine_arguments(experiment(spec, engine), LATER)["speculative_config"]
    assert told["Eagle3DecodingConfig"]["allow_advanced_sampling"] is True


@pytest.mark.parametrize(
    ("spec", "engine", "words"),
    [
        (
            NgramSpec(),
            TensorRTLLMEngine(max_num_seqs=1, disable_overlap_scheduler=False),
            r"engine\.disable_overlap_scheduler=False: spec=ngram",
        ),
        (MTPSpec(draft=DRAFT), None, r"spec\.draft\.path=org/draft: .*the target's own layers"),
        (
            Eagle3Spec(draft=DraftCheckpoint(path="org/draft", revision="abc")),
            None,
            r"spec\.draft\.revision=abc: .*download it",
        ),
    ],
)
def test_what_cannot_be_is_refused(spec: SpecConfig, engine: LLMAPIEngine | None, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        arguments.engine_arguments(experiment(spec, engine), NOW)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("max_batch_size", r"use engine\.max_num_seqs"),
        ("speculative_config", "use spec"),
        ("tensor_parallel_size", r"engine\.world_size of auto_deploy"),
        ("stream_interval", "needs it as 1"),
        ("backend", "engine=auto_deploy"),
        ("sampler_tipe", "did you mean sampler_type"),
        ("zzz", "see TensorRT-LLM's LlmArgs"),
    ],
)
def test_extra_arguments_are_refused_by_name(key: str, words: str) -> None:
    with pytest.raises(ConfigError, match=rf"engine\.extra_args\.{key}.*{words}"):
        arguments.EXTRA_ARGUMENTS.check({key: 1}, NOW.known, NOW.version)


def test_known_extra_arguments_are_passed() -> None:
    assert arguments.EXTRA_ARGUMENTS.check({"sampler_type": "TorchSampler"}, NOW.known, NOW.version) == {
        "sampler_type": "TorchSampler"
    }


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ((16, 0.0, 1.0, 0, 5, (2,)), {"end_id": 2, "ignore_eos": False, "top_k": 1}),
        (
            (16, 0.0, 1.0, 0, 5, (2, 7, 9)),
            {
                "end_id": 2,
                "stop_token_ids": [7, 9],
                "include_stop_str_in_output": True,
                "ignore_eos": False,
                "top_k": 1,
            },
        ),
        ((16, 0.0, 1.0, 0, 5, ()), {"end_id": 0, "ignore_eos": True, "top_k": 1}),
        (
            (16, 0.7, 1.0, 0, 5, (2,)),
            {"end_id": 2, "ignore_eos": False, "temperature": 0.7, "top_p": 1.0, "seed": 5},
        ),
        (
            (16, 0.7, 0.9, 40, 5, (2,)),
            {"end_id": 2, "ignore_eos": False, "temperature": 0.7, "top_p": 0.9, "top_k": 40, "seed": 5},
        ),
    ],
)
def test_sampling(request_: tuple[int, float, float, int, int, tuple[int, ...]], expected: dict[str, Any]) -> None:
    found = arguments.sampling_arguments(*request_)
    assert found == {"max_tokens": 16, "detokenize": False} | expected
    assert found.keys() <= field_names(load("tensorrt_llm.json"), "SamplingParams")


@pytest.mark.parametrize(
    ("sampling", "words"),
    [
        ({"min_new_tokens": 2}, "one end token only"),
        ({"ignore_eos": True, "stop_token_ids": [3]}, "all stops or none"),
    ],
)
def test_sampling_that_it_cannot_do(sampling: dict[str, Any], words: str) -> None:
    for engine in (TensorRTLLMEngine(), AutoDeployEngine()):
        with pytest.raises(ConfigError, match=words):
            check_support(experiment(NoSpec(), engine, **sampling))
