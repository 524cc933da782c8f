"""conf/experiment composes on every engine that has its method, and each engine gets exactly these arguments."""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from specdec_bench.config import compose
from specdec_bench.config.checkpoints import draft_checkpoint
from specdec_bench.config.compose import CONF
from specdec_bench.config.schema.engine import OPTIONS
from specdec_bench.config.schema.experiment import draft_length
from specdec_bench.config.support import ENGINES, check_support
from specdec_bench.engines.sglang import arguments as sglang_arguments
from specdec_bench.engines.vllm import arguments as vllm_arguments
from specdec_bench.errors import ConfigError
from tests.helpers.composing import experiment

PATHS = sorted((CONF / "experiment").glob("*.yaml"))
NEUTRAL = [path.stem for path in PATHS if "override /engine" not in path.read_text(encoding="utf-8")]
"""Those that leave the engine to the command line."""
ENGINES_WITH_EAGLE3 = [
    name
    for name, support in ENGINES.items()
    if "eagle3" in support.methods and hasattr(OPTIONS[name], "tensor_parallel_size")
]
"""Those that the examples' checkpoints run on: llama.cpp wants GGUF files, and spreads them over GPUs by itself."""


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_every_experiment_composes_and_survives_its_archive(path: Path) -> None:
    engine = ["engine=vllm"] if path.stem in NEUTRAL else []
    config = experiment(f"experiment={path.stem}", *engine)
    check_support(config)
    assert config.load.num_warmup == 1
    assert compose.archived_experiment(yaml.safe_load(yaml.safe_dump(compose.to_tree(config)))) == config


class Published(NamedTuple):
    """What was published for one experiment."""

    target: str
    head: str
    method: str
    draft_length: int
    num_turns: int | None
    length: float
    joint: tuple[float, ...] = ()
    engine: str = "vllm"


LLAMA_8B, QWEN3_8B = "meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-8B"
QWEN3_VL, QWEN3_VL_HEAD = "Qwen/Qwen3-VL-30B-A3B-Instruct-FP8", "nm-testing/Speculator-Qwen3-30B-MOE-VL-Eagle3"
SPECFORGE = "lmsys/SGLang-EAGLE3-Llama-3.1-8B-Instruct-SpecForge"
PUBLISHED = {
    "vllm_llama_3_1_8b": Published(
        LLAMA_8B, "RedHatAI/Llama-3.1-8B-Instruct-speculator.eagle3", "eagle3", 3, 1, 2.60, (0.7296, 0.5208, 0.3545)
    ),
    "vllm_qwen3_8b": Published(
        QWEN3_8B, "RedHatAI/Qwen3-8B-speculator.eagle3", "eagle3", 3, 1, 2.26, (0.6541, 0.3993, 0.2020)
    ),
    "vllm_gpt_oss_20b": Published(
        "openai/gpt-oss-20b", "RedHatAI/gpt-oss-20b-speculator.eagle3", "eagle3", 3, 1, 2.56, (0.7165, 0.5120, 0.3337)
    ),
    "vllm_qwen3_vl_30b_a3b": Published(QWEN3_VL, QWEN3_VL_HEAD, "eagle3", 3, 1, 1.35, (0.2900, 0.0620, 0.0115)),
    "vllm_qwen3_8b_dflash": Published(QWEN3_8B, "z-lab/Qwen3-8B-DFlash-b16", "dflash", 15, 1, 3.29),
    "vllm_qwen3_8b_pard2": Published(QWEN3_8B, "amd/PARD2-Qwen3-8B", "draft_model", 5, 1, 3.44),
    "vllm_qwen3_4b_dspark": Published("Qwen/Qwen3-4B", "deepseek-ai/dspark_qwen3_4b_block7", "dspark", 7, 1, 3.63),
    "sglang_llama_3_1_8b": Published(LLAMA_8B, SPECFORGE, "eagle3", 3, None, 2.898, engine="sglang"),
}
"""Copied from the sources that the experiments name."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_repetitions_of_a_published_test_say_what_to_expect(name: str) -> None:
    config, published = experiment(f"experiment={name}"), PUBLISHED[name]
    expected, draft = config.expected, draft_checkpoint(config)
    assert draft is not None
    assert (config.engine.name, config.model.path, draft.path) == (published.engine, published.target, published.head)
    assert (config.spec.name, draft_length(config.spec)) == (published.method, published.draft_length)
    assert (config.dataset.name, config.dataset.num_turns, config.sampling.temperature) == (
        "mt_bench",
        published.num_turns,
        0,
    )
    assert expected.num_requests == 80 * (published.num_turns or 2)
    assert expected.acceptance_joint == list(published.joint)
    if published.engine == "sglang":  # its definition counts the token of each prefill
        assert (expected.output_tokens_per_verify_step, expected.acceptance_length_drafted) == (published.length, None)
    else:
        assert (expected.acceptance_length_drafted, expected.output_tokens_per_verify_step) == (published.length, None)
    assert published.joint or expected.draft_length == published.draft_length
    assert expected.source


def test_every_experiment_with_published_values_is_in_the_table() -> None:
    assert {path.stem for path in PATHS if "\nexpected:" in path.read_text(encoding="utf-8")} == set(PUBLISHED)


@pytest.mark.parametrize("name", [name for name, published in PUBLISHED.items() if published.joint])
def test_published_lengths_agree_with_their_positions(name: str) -> None:
    """1 + the sum of the joint acceptance is the length, as far as its two decimals say."""
    published = PUBLISHED[name]
    assert 1 + sum(published.joint) == pytest.approx(published.length, abs=0.02)


def test_the_draft_that_can_be_pinned_is() -> None:
    config = experiment("experiment=smollm2_1_7b_mt_bench", "engine=vllm")
    draft = draft_checkpoint(config)
    assert draft is not None
    small = experiment("model=smollm2_135m", "spec=none").model
    assert (draft.path, draft.revision) == (small.path, small.revision)
    assert draft.revision is not None
    assert not config.expected.source


class Example(NamedTuple):
    """What one of the NVIDIA reference's example commands asks of every engine."""

    target: str
    dtype: str
    head: str
    max_num_seqs: int
    max_seq_len: int | None = None
    tensor_parallel_size: int = 1


GPT_OSS_120B = Example("openai/gpt-oss-120b", "auto", "nvidia/gpt-oss-120b-Eagle3", max_num_seqs=1)
GPT_OSS_20B = Example("openai/gpt-oss-20b", "auto", "RedHatAI/gpt-oss-20b-speculator.eagle3", max_num_seqs=1)
LLAMA = Example(
    "meta-llama/Llama-3.3-70B-Instruct",
    "bfloat16",
    "yuhuili/EAGLE3-LLaMA3.3-Instruct-70B",
    max_num_seqs=32,
    tensor_parallel_size=8,
)
EXAMPLES = {
    "gpt_oss_120b_mt_bench": GPT_OSS_120B,
    "gpt_oss_120b_random": GPT_OSS_120B,
    "gpt_oss_20b_mt_bench": GPT_OSS_20B,
    "gpt_oss_20b_random": GPT_OSS_20B,
    "llama_3_3_70b_speed_qualitative": LLAMA,
    "llama_3_3_70b_speed_throughput": LLAMA,
    "llama_3_3_70b_speed_long_context": LLAMA._replace(max_seq_len=131072),
}


@functools.cache
def composed(name: str, engine: str, *overrides: str) -> Any:
    """Returns the experiment on as many GPUs as its header says. Tests share it, and do not change it."""
    parallel = f"engine.tensor_parallel_size={EXAMPLES[name].tensor_parallel_size}"
    return experiment(f"experiment={name}", f"engine={engine}", parallel, *overrides)


@pytest.mark.parametrize("engine", ENGINES_WITH_EAGLE3)
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_engine_is_asked_for_the_same(name: str, engine: str) -> None:
    config, example = composed(name, engine), EXAMPLES[name]
    check_support(config)
    assert (config.engine.name, config.spec.name, draft_length(config.spec)) == (engine, "eagle3", 3)
    assert config.spec.draft.path == example.head
    assert (config.sampling.temperature, config.sampling.max_new_tokens) == (0.0, 4096)
    assert config.sampling.ignore_eos is False
    assert config.model.max_seq_len == example.max_seq_len
    assert config.load.concurrency == config.engine.max_num_seqs == example.max_num_seqs


@pytest.mark.parametrize("engine", ENGINES_WITH_EAGLE3)
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_plain_baseline_differs_in_the_method_alone(name: str, engine: str) -> None:
    plain, drafting = composed(name, engine, "spec=none"), composed(name, engine)
    check_support(plain)
    assert plain.spec.name == "none"
    for group in ("engine", "model", "dataset", "load", "sampling", "seed"):
        assert getattr(plain, group) == getattr(drafting, group)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gpt_oss_120b_mt_bench", ("mt_bench", None)),
        ("gpt_oss_20b_mt_bench", ("mt_bench", None)),
        ("gpt_oss_120b_random", ("random", 40)),
        ("gpt_oss_20b_random", ("random", 40)),
        ("llama_3_3_70b_speed_qualitative", ("speed_bench", None)),
        ("llama_3_3_70b_speed_throughput", ("speed_bench", None)),
        ("llama_3_3_70b_speed_long_context", ("speed_bench", None)),
    ],
)
def test_datasets(name: str, expected: tuple[str, int | None]) -> None:
    """All 80 questions and all prompts of a split, both turns; 40 random prompts of 1,024 tokens."""
    dataset = composed(name, "vllm").dataset
    assert (dataset.name, dataset.num_prompts) == expected
    assert dataset.num_turns is None
    splits = {"qualitative": "qualitative", "throughput": "throughput_1k", "long_context": "throughput_16k"}
    for ending, split in splits.items():
        if name.endswith(ending):
            assert dataset.split == split
    if name.endswith("random"):
        assert (dataset.input_tokens, dataset.length_distribution) == (1024, "fixed")


@pytest.mark.parametrize("name", EXAMPLES)
def test_vllm_s_arguments(name: str) -> None:
    example = EXAMPLES[name]
    expected = {
        "model": example.target,
        "dtype": example.dtype,
        "trust_remote_code": False,
        "tensor_parallel_size": example.tensor_parallel_size,
        "pipeline_parallel_size": 1,
        "data_parallel_size": 1,
        "enable_expert_parallel": False,
        "max_num_seqs": example.max_num_seqs,
        "enable_prefix_caching": False,
        "enforce_eager": False,
        "speculative_config": {"method": "eagle3", "num_speculative_tokens": 3, "model": example.head},
        "skip_tokenizer_init": True,
        "disable_log_stats": False,
        "generation_config": "vllm",
        "per_request_spec_decode_metrics": "detailed",
    }
    if example.max_seq_len is not None:
        expected["max_model_len"] = example.max_seq_len
    assert vllm_arguments.engine_arguments(composed(name, "vllm")) == expected


@pytest.mark.parametrize("name", EXAMPLES)
def test_sglang_s_arguments(name: str) -> None:
    example = EXAMPLES[name]
    expected = {
        "model_path": example.target,
        "dtype": example.dtype,
        "trust_remote_code": False,
        "tp_size": example.tensor_parallel_size,
        "pp_size": 1,
        "dp_size": 1,
        "ep_size": 1,
        "max_running_requests": example.max_num_seqs,
        "cuda_graph_max_bs_decode": example.max_num_seqs,
        "disable_radix_cache": True,
        "disable_cuda_graph": False,
        "speculative_algorithm": "EAGLE3",
        "speculative_draft_model_path": example.head,
        "speculative_num_steps": 3,
        "speculative_eagle_topk": 1,
        "speculative_num_draft_tokens": 4,  # three drafts and the token that is verified beside them
        "skip_tokenizer_init": True,
        "stream_interval": 1,
        "random_seed": 0,
        "log_level": "warning",
    }
    if example.max_seq_len is not None:
        expected["context_length"] = example.max_seq_len
    known = sglang_arguments.SETTINGS.keys() | sglang_arguments.FIXED.keys()
    assert sglang_arguments.engine_arguments(composed(name, "sglang"), known, ["EAGLE3"]) == expected


def test_an_experiment_without_an_engine_says_which_have_its_method() -> None:
    config = experiment("experiment=gpt_oss_20b_random")
    with pytest.raises(ConfigError, match=r"spec=eagle3: engine=transformers has no .*runs on engine=vllm, sglang"):
        check_support(config)
