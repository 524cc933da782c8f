"""What an engine made of settings, sampling and requests, compared with what was asked."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from specdec_bench.engines.readback import check_sampling, differences, fault, refuse_another_method
from specdec_bench.engines.sglang import arguments as sglang_arguments
from specdec_bench.engines.tensorrt_llm import arguments as tensorrt_llm_arguments
from specdec_bench.engines.vllm import arguments as vllm_arguments
from specdec_bench.engines.vllm.adapter import _made as made_by_vllm
from specdec_bench.errors import ConfigError, EngineError
from specdec_bench.records.manifest import Difference, EngineDescription
from specdec_bench.records.request import (
    Chunk,
    FinishReason,
    GenerationRequest,
    RequestMade,
    RequestSampling,
    StepBatch,
)
from specdec_bench.runner.messages import Counts
from specdec_bench.runner.receive import Received, receive

SAMPLED = RequestSampling(max_new_tokens=8, temperature=0.7, top_p=0.9, top_k=20, seed=3, stop_token_ids=(2, 1))


def made(asked: RequestSampling, **changes: Any) -> Mapping[str, Any]:
    return msgspec.structs.asdict(asked) | changes


# ---------------------------------------------------------------- settings


class Half:
    """Printed as torch prints a dtype."""

    def __str__(self) -> str:
        return "torch.float16"


def test_settings_that_the_engine_changed_are_named_with_both_values() -> None:
    triples = [("engine.max_num_seqs", 64, 48), ("model.dtype", "float32", "float32"), ("engine.enforce_eager", 1, 1.0)]
    assert differences(triples) == (Difference(name="engine.max_num_seqs", asked=64, got=48),)


@pytest.mark.parametrize(
    ("name", "asked", "got"),
    [
        ("model.max_seq_len", None, 4096),
        ("model.dtype", "auto", "bfloat16"),
        ("model.dtype", "float16", Half()),
        ("model.path", "org/model", "/cache/org/model"),
        ("engine.extra_args.compilation_config", {"level": 3}, "CompilationConfig(...)"),
        ("engine.gpu_memory_utilization", 0.5, 0.5),
    ],
)
def test_what_was_left_to_the_engine_is_no_difference(name: str, asked: Any, got: Any) -> None:
    assert differences([(name, asked, got)]) == ()


@pytest.mark.parametrize(
    ("asked", "got"), [(True, False), (0, None), ("float32", Half()), (3, 5), (0.9, 0.85), ("fp8", None)]
)
def test_what_was_asked_for_and_is_not_so_is_a_difference(asked: Any, got: Any) -> None:
    assert len(differences([("engine.x", asked, got)])) == 1


def described(*found: Difference) -> EngineDescription:
    return EngineDescription(
        arguments={}, resolved={}, max_seq_len=None, num_accelerators=0, reproducible=True, differences=found
    )


def test_an_engine_that_drafts_otherwise_than_the_label_says_is_refused_and_another_batch_is_not() -> None:
    batch = Difference(name="engine.max_num_seqs", asked=64, got=48)
    refuse_another_method(described(batch))
    with pytest.raises(EngineError, match=r"spec\.draft_length: 3 was asked for, and the engine runs with 5"):
        refuse_another_method(described(batch, Difference(name="spec.draft_length", asked=3, got=5)))


def test_vllm_arguments_are_found_in_whatever_section_has_them() -> None:
    arguments = {
        "max_num_seqs": 64,
        "max_model_len": 512,
        "num_gpu_blocks_override": 6,
        "disable_log_stats": False,
        "speculative_config": {"method": "mtp", "num_speculative_tokens": 3, "prompt_lookup_max": 4, "gone": 1},
    }
    resolved = {
        "model_config": {"max_model_len": 512},
        "scheduler_config": {"max_num_seqs": 48, "max_model_len": 256},
        "cache_config": {"num_gpu_blocks_override": 7},
        "speculative_config": {"method": "qwen3_mtp", "num_speculative_tokens": 2, "prompt_lookup_max": 4},
        "instance_id": "a",
    }
    assert differences(vllm_arguments.asked_and_resolved(arguments, resolved)) == (
        Difference(name="engine.max_num_seqs", asked=64, got=48),
        Difference(name="engine.extra_args.num_gpu_blocks_override", asked=6, got=7),
        Difference(name="spec.draft_length", asked=3, got=2),
    )


def test_the_class_of_a_vllm_server_is_compared_by_name_and_a_drafts_path_is_not() -> None:
    def found(method: str) -> tuple[Difference, ...]:
        asked, got = ({"speculative_config": {"method": method, "model": name}} for name in ("mine.A", "mine.B"))
        return differences(vllm_arguments.asked_and_resolved(asked, got))

    assert found("custom_class") == (Difference(name="spec.proposer", asked="mine.A", got="mine.B"),)
    assert found("draft_model") == ()


def test_sglang_arguments_are_compared_under_the_settings_names() -> None:
    arguments = {
        "max_running_requests": 64,
        "speculative_algorithm": "NEXTN",
        "speculative_num_draft_tokens": 4,
        "disable_radix_cache": True,
        "page_size": 16,
    }
    resolved = arguments | {"max_running_requests": 48, "speculative_algorithm": "EAGLE", "page_size": 1}
    assert differences(sglang_arguments.asked_and_resolved(arguments, resolved)) == (
        Difference(name="engine.max_num_seqs", asked=64, got=48),
        Difference(name="engine.extra_args.page_size", asked=16, got=1),
    )
    cached = resolved | arguments | {"disable_radix_cache": False}
    assert differences(sglang_arguments.asked_and_resolved(arguments, cached)) == (
        Difference(name="engine.enable_prefix_caching", asked=False, got=True),
    )
    fewer = resolved | {"speculative_num_draft_tokens": 3}
    assert "spec.num_draft_tokens" in [
        one.name for one in differences(sglang_arguments.asked_and_resolved(arguments, fewer))
    ]


def test_tensorrt_llm_arguments_are_compared_within_its_objects() -> None:
    arguments = {
        "max_batch_size": 64,
        "kv_cache_config": {"KvCacheConfig": {"enable_block_reuse": False}},
        "speculative_config": {"NGramDecodingConfig": {"max_draft_len": 3, "max_matching_ngram_size": 2}},
        "cuda_graph_config": None,
    }
    resolved = {
        "max_batch_size": 32,
        "kv_cache_config": {"enable_block_reuse": True, "dtype": "auto"},
        "speculative_config": {"max_draft_len": 4, "max_matching_ngram_size": 2},
        "cuda_graph_config": None,
    }
    found = differences(tensorrt_llm_arguments.asked_and_resolved(arguments, resolved))
    assert [(one.name.rpartition(".")[2], one.asked, one.got) for one in found] == [
        ("max_num_seqs", 64, 32),
        ("enable_block_reuse", False, True),
        ("draft_length", 3, 4),
    ]
    assert found[2].name == "spec.draft_length"


# ---------------------------------------------------------------- sampling


def test_a_sampling_that_is_taken_as_it_is_passes_in_any_order_of_stops() -> None:
    assert check_sampling("vllm", SAMPLED, made(SAMPLED, stop_token_ids=[1, 2, 2])) == ()


@pytest.mark.parametrize(
    ("field", "got"),
    [
        ("temperature", 0.01),
        ("temperature", 0.0),
        ("top_p", 1.0),
        ("top_k", 0),
        ("max_new_tokens", 7),
        ("min_new_tokens", 1),
        ("stop_token_ids", (1,)),
        ("stop_token_ids", (1, 2, 3)),
    ],
)
def test_a_value_that_the_engine_rewrites_is_refused_with_both_values(field: str, got: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^sampling\.{field}=.*: engine=vllm makes it ") as caught:
        check_sampling("vllm", SAMPLED, made(SAMPLED, **{field: got}))
    assert "\n" not in str(caught.value)


def test_greedy_has_no_top_p_top_k_or_seed_to_change() -> None:
    asked = RequestSampling(max_new_tokens=8, temperature=0, top_p=0.9, top_k=20, seed=3)
    assert check_sampling("sglang", asked, made(asked, top_p=1.0, top_k=0, seed=None)) == ()


def test_a_seed_that_is_not_taken_is_said_and_not_refused() -> None:
    assert check_sampling("sglang", SAMPLED, made(SAMPLED, seed=None)) == (Difference(name="seed", asked=3, got=None),)


# ---------------------------------------------------------------- a finished request

ASKED = GenerationRequest(
    request_id="r",
    prompt_token_ids=(5, 6, 7),
    sampling=RequestSampling(max_new_tokens=4, min_new_tokens=2, stop_token_ids=(1, 2)),
)


@pytest.mark.parametrize(
    ("token_ids", "reason", "num_prompt_tokens", "words"),
    [
        ([9, 9, 9, 9], "length", 3, None),
        ([9, 9, 9, 9], "length", None, None),
        ([9, 2], "stop", 3, None),
        ([9, 9, 9, 1], "stop", 3, None),
        ([9, 9, 9], "length", 3, "ended it after 3 of 4 tokens, for lack of room"),
        ([], "length", 3, "ended it after 0 of 4 tokens"),
        ([9, 9, 9, 9, 9], "length", 3, "gave 5 tokens where 4 were the limit"),
        ([9, 9, 9, 9, 1], "stop", 3, "gave 5 tokens where 4 were the limit"),
        ([9, 9], "stop", 3, r"stopped at token 9, which is none of sampling's stops [1, 2]"),
        ([1], "stop", 3, "stopped after 1 tokens, of at least 2"),
        ([], "stop", 3, "stopped after 0 tokens, of at least 2"),
        ([9, 2], "stop", 2, "took 2 of the prompt's 3 tokens"),
        ([9, 2], None, 3, "without a finish reason"),
    ],
)
def test_a_request_that_is_not_what_was_asked_for_says_why(
    token_ids: list[int], reason: FinishReason | None, num_prompt_tokens: int | None, words: str | None
) -> None:
    found = fault(ASKED, token_ids, reason, num_prompt_tokens)
    assert found is None if words is None else found is not None and words in found


def test_an_engine_that_stops_where_no_stop_was_asked_for_is_at_fault() -> None:
    endless = GenerationRequest(request_id="r", prompt_token_ids=(5,), sampling=RequestSampling(max_new_tokens=4))
    assert fault(endless, [], "stop", 1) is not None
    assert fault(endless, [1], "stop", 1) is not None


class OneAnswer:
    """Answers with one chunk or batch."""

    def __init__(self, answer: Chunk | StepBatch) -> None:
        self._answer = answer

    async def stream(self, request: GenerationRequest) -> AsyncIterator[Chunk | StepBatch]:
        yield self._answer


def received(answer: Chunk | StepBatch) -> Received:
    found, cancellation = asyncio.run(receive(OneAnswer(answer), ASKED, Counts()))  # type: ignore[arg-type]
    assert cancellation is None
    return found


@pytest.mark.parametrize(
    "answer",
    [
        Chunk([9, 9, 9, 9], finish_reason="length", made=RequestMade(3, 2)),
        StepBatch([9, 9, 9, 9], [1, 3], [10, 20], [0, 3], [0, 2], "length", made=RequestMade(3, 2)),
    ],
    ids=["chunk", "batch"],
)
def test_preemptions_are_kept_with_the_request(answer: Chunk | StepBatch) -> None:
    found = received(answer)
    assert (found.error, found.made.num_preemptions) == (None, 2)


def test_a_request_that_the_engine_cut_keeps_its_tokens_and_fails() -> None:
    found = received(StepBatch([9, 9, 9], [1, 2], [10, 20], [0, 3], [0, 1], "length"))
    assert found.error is not None
    assert (found.error.kind, found.token_ids, found.finish_reason) == ("engine_error", [9, 9, 9], "length")


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        (SimpleNamespace(num_preemptions=3), 3),
        (SimpleNamespace(num_preemptions=0), 0),
        (SimpleNamespace(), None),
        (None, None),
    ],
)
def test_vllms_count_of_preemptions_is_none_where_a_release_has_none(metrics: Any, expected: int | None) -> None:
    assert made_by_vllm(SimpleNamespace(prompt_token_ids=[5, 6, 7], metrics=metrics)) == RequestMade(3, expected)
