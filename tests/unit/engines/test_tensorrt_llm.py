"""TensorRT-LLM's adapter on a stand-in that has its signatures and whose results behave as its do."""

import asyncio
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from specdec_bench.config.schema.engine import AutoDeployEngine, LLMAPIEngine, TensorRTLLMEngine
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.config.schema.model import DraftCheckpoint, ModelConfig
from specdec_bench.config.schema.spec import DraftModelSpec, MTPSpec, NgramSpec, NoSpec, SpecConfig
from specdec_bench.engines.base import create
from specdec_bench.engines.tensorrt_llm.adapter import TensorRTLLMAdapter
from specdec_bench.errors import ConfigError, EngineDiedError, EngineError, EngineUnavailableError
from specdec_bench.records.request import AcceptanceCounters, GenerationRequest, RequestSampling
from specdec_bench.runner.messages import Counts
from specdec_bench.runner.receive import Received, receive
from tests.helpers import build
from tests.stand_ins import importing

EOS = 2


@pytest.fixture(autouse=True)
def _stand_in() -> Iterator[None]:
    """The stand-in is there for these tests, and for no other."""
    with importing.tensorrt_llm():
        yield


def experiment(spec: SpecConfig, engine: LLMAPIEngine | None = None) -> ExperimentConfig:
    return build.experiment(
        engine=engine or TensorRTLLMEngine(max_num_seqs=4),
        model=ModelConfig(name="m", path="org/target"),
        spec=spec,
    )


def started(spec: SpecConfig, engine: LLMAPIEngine | None = None) -> Any:
    adapter = create(experiment(spec, engine))
    asyncio.run(adapter.start())
    assert isinstance(adapter, TensorRTLLMAdapter)
    return adapter


def request(stops: tuple[int, ...] = (EOS,), max_new_tokens: int = 16) -> GenerationRequest:
    sampling = RequestSampling(max_new_tokens=max_new_tokens, stop_token_ids=stops)
    return GenerationRequest(request_id="r", prompt_token_ids=(5, 6), sampling=sampling)


def received(
    adapter: Any, responses: list[tuple[Any, ...]] | None, stops: tuple[int, ...] = (EOS,), limit: int | None = None
) -> Received:
    """What comes of one request that the executor answers with these (tokens, steps so far, finish, error).

    Its limit is the number of those tokens, where none is given.
    """
    from tensorrt_llm import Response

    adapter._engine.script = None if responses is None else [Response(*response) for response in responses]
    limit = limit or sum(len(response[0]) for response in responses or ()) or 16
    result, _ = asyncio.run(receive(adapter, request(stops, limit), Counts()))
    return result


def steps(result: Received) -> list[tuple[int, int | None, int | None]]:
    return list(zip(result.sizes, result.proposed, result.accepted, strict=True))


def test_the_prefill_is_no_decode_step_and_drafts_are_not_told() -> None:
    """10 tokens in 4 engine steps, of which the first is the prefill: 9 tokens in 3 decode steps."""
    adapter = started(NgramSpec(draft_length=3))
    result = received(adapter, [([10], 1), ([11, 12, 13, 14], 2), ([15], 3), ([16, 17, 18, 19], 4, "length")])
    assert result.error is None
    assert result.token_ids == [*range(10, 20)]
    assert steps(result) == [(1, 0, 0), (4, None, None), (1, None, None), (4, None, None)]
    assert result.steps_are_exact
    assert result.counters == AcceptanceCounters(num_verify_steps=None, num_accepted=None, num_decode_steps=3)
    assert result.finish_reason == "length"


def test_a_merged_chunk_says_so_and_the_count_is_still_exact() -> None:
    adapter = started(NgramSpec(draft_length=3))
    result = received(adapter, [([10, 11, 12], 2), ([13, 14, 15, 16, 17], 4, "length")])
    assert result.sizes == [3, 5]
    assert result.accepted == [None, None]
    assert not result.steps_are_exact
    assert result.counters is not None
    assert result.counters.num_decode_steps == 3


def test_plain_decoding_counts_one_token_a_step() -> None:
    result = received(started(NoSpec()), [([10], 1), ([11], 2), ([12], 3, "length")])
    assert steps(result) == [(1, 0, 0)] * 3
    assert result.counters is None


def test_an_empty_first_chunk_and_a_lone_end_token() -> None:
    adapter = started(NgramSpec(draft_length=3))
    result = received(adapter, [([], 0), ([10], 1), ([], 1), ([11, 12], 2), ([EOS], 3, "stop")])
    assert result.token_ids == [10, 11, 12, EOS]
    assert result.sizes == [1, 2, 1]
    assert result.steps_are_exact
    assert (result.finish_reason, result.counters and result.counters.num_decode_steps) == ("stop", 2)


def test_one_token_and_none_at_all() -> None:
    adapter = started(NgramSpec(draft_length=3))
    one = received(adapter, [([EOS], 1, "stop")])
    assert steps(one) == [(1, 0, 0)]
    assert one.counters is not None
    assert one.counters.num_decode_steps == 0
    none = received(adapter, [([], 0, "stop")])
    assert (none.error, none.token_ids, none.counters, none.finish_reason) == (None, [], None, "stop")


def test_any_of_several_stops_ends_a_request_and_no_other() -> None:
    adapter = started(NoSpec())
    script = [([10], 1), ([7], 2, "stop")]
    assert received(adapter, script, stops=(EOS, 7)).finish_reason == "stop"
    assert (adapter._engine.requests[0].end_id, adapter._engine.requests[0].stop_token_ids) == (EOS, [7])
    refused = received(adapter, script).error
    assert refused is not None
    assert "stopped at token 7, which is none of sampling's stops [2]" in refused.message


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ([([10], 1), ([], 1, None, "out of blocks")], "TensorRT-LLM: out of blocks"),
        ([([10], 1), ([11], 2, "cancelled")], "ended as 'cancelled'"),
        ([([10], 1), ([11], 3, "length")], "it counts steps in another way"),
    ],
)
def test_what_goes_wrong_fails_the_request_and_keeps_what_came(script: list[tuple[Any, ...]], words: str) -> None:
    result = received(started(NgramSpec()), script)
    assert result.error is not None
    assert words in result.error.message
    assert result.token_ids[:1] == [10]


def test_plain_steps_without_their_tokens_are_refused() -> None:
    error = received(started(NoSpec()), [([10, 11], 1, "length")]).error
    assert error is not None
    assert "decoding_iter=1 for 2 tokens" in error.message


def test_tokens_that_the_mean_knows_and_the_stream_lacks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = started(NgramSpec())
    send = adapter._engine.generate_async

    def generate_async(*args: Any, **kwargs: Any) -> Any:
        result = send(*args, **kwargs)
        told = property(lambda self: 2.0, lambda self, value: None)
        monkeypatch.setattr(type(result), "avg_decoded_tokens_per_iter", told, raising=False)
        return result

    adapter._engine.generate_async = generate_async
    error = received(adapter, [([10], 1), ([11, 12], 2, "length")]).error
    assert error is not None
    assert "avg_decoded_tokens_per_iter=2.0" in error.message


def test_what_is_not_one_request_s_ends_the_engine() -> None:
    from tensorrt_llm import Response

    adapter = started(NoSpec())
    adapter._engine.script = [Response([10], 1), Response([], 1, None, MemoryError("out of it"))]
    result, raised = asyncio.run(receive(adapter, request(), Counts()))
    assert isinstance(raised, EngineDiedError)
    assert result.token_ids == [10]
    assert result.error is not None
    assert result.error.message == "TensorRT-LLM died: MemoryError: out of it"
    assert adapter._engine.aborted == []


def test_a_request_that_is_not_taken_fails_alone() -> None:
    adapter = started(NoSpec())
    adapter._engine.generate_async = lambda *_, **__: (_ for _ in ()).throw(ValueError("the prompt is too long"))
    error = received(adapter, None).error
    assert error is not None
    assert error.message == "TensorRT-LLM: ValueError: the prompt is too long"


def test_a_reader_that_leaves_early_cancels_its_request_and_one_that_stays_does_not() -> None:
    adapter = started(NoSpec())

    async def leave() -> None:
        stream = adapter.stream(request())
        async for _ in stream:
            break
        await stream.aclose()

    asyncio.run(leave())
    assert [output.is_aborted for output in adapter._engine.aborted] == [True]
    assert received(adapter, None).error is None
    assert len(adapter._engine.aborted) == 1


def test_every_request_has_its_own_sampling() -> None:
    adapter = started(NoSpec())
    for _ in range(2):
        received(adapter, None)
    first, second = adapter._engine.requests
    assert first is not second
    assert first == second


def test_two_requests_at_a_time_do_not_mix() -> None:
    adapter = started(NgramSpec(draft_length=3))

    async def both() -> list[Received]:
        pair = (receive(adapter, request(max_new_tokens=number), Counts()) for number in (6, 7))
        return [result for result, _ in await asyncio.gather(*pair)]

    short, long = asyncio.run(both())
    # One token, then four and one in turn, the last cut: 1+4+1 and 1+4+1+1.
    assert (short.sizes, long.sizes) == ([1, 4, 1], [1, 4, 1, 1])
    assert (short.token_ids, long.token_ids) == ([*range(11, 17)], [*range(11, 18)])


def test_the_objects_that_are_passed_and_what_is_archived_of_them() -> None:
    spec = DraftModelSpec(draft_length=3, draft=DraftCheckpoint(path="org/draft"))
    adapter = started(spec, TensorRTLLMEngine(max_num_seqs=4, tensor_parallel_size=2))
    description = adapter.describe()
    decoding = adapter._engine.args.speculative_config
    assert type(decoding).__name__ == "DraftTargetDecodingConfig"
    assert (decoding.max_draft_len, decoding.speculative_model_dir) == (3, "org/draft")
    assert description.arguments["kv_cache_config"] == {"KvCacheConfig": {"enable_block_reuse": False}}
    assert description.resolved["kv_cache_config"]["enable_block_reuse"] is False
    assert description.resolved["tensorrt_llm"] == "0.0.0+stand.in.of.3e906a0ed7c6"
    assert description.resolved["speculative_config"]["max_draft_len"] == 3
    assert description.num_accelerators == 2


def test_no_graphs_are_none_and_not_the_default_ones() -> None:
    adapter = started(NoSpec(), TensorRTLLMEngine(max_num_seqs=4, enforce_eager=True))
    assert adapter._engine.args.cuda_graph_config is None


def test_auto_deploy_is_the_same_with_other_arguments() -> None:
    adapter = started(NoSpec(), AutoDeployEngine(max_num_seqs=4, world_size=2))
    assert type(adapter._engine).__module__ == "tensorrt_llm._torch.auto_deploy.llm"
    assert (adapter.describe().num_accelerators, adapter.describe().max_seq_len) == (2, 512)
    assert steps(received(adapter, [([10], 1), ([11], 2, "length")])) == [(1, 0, 0)] * 2


def test_a_method_that_the_release_has_for_another_backend_is_refused_before_it_loads() -> None:
    spec = DraftModelSpec(draft=DraftCheckpoint(path="org/draft"))
    with pytest.raises(EngineUnavailableError, match=r"spec=draft_model: .*stand\.in.* for engine=auto_deploy"):
        started(spec, AutoDeployEngine(max_num_seqs=4))


def test_what_forces_the_overlap_scheduler_off_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        started(MTPSpec())
        assert not caplog.records
        started(NgramSpec())
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "engine.disable_overlap_scheduler=true takes it from the baseline too" in caplog.text


def test_unknown_arguments_and_a_failing_start() -> None:
    with pytest.raises(ConfigError, match=r"engine\.extra_args\.sampler_tipe: .*did you mean sampler_type"):
        started(NoSpec(), TensorRTLLMEngine(max_num_seqs=4, extra_args={"sampler_tipe": 1}))
    with pytest.raises(EngineError, match="did not start: ValidationError: enable_autotuner: Input should be a"):
        started(NoSpec(), TensorRTLLMEngine(max_num_seqs=4, extra_args={"enable_autotuner": "perhaps"}))


def test_without_the_package_it_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_llm", None)
    with pytest.raises(
        EngineUnavailableError, match=r"engine=tensorrt_llm needs TensorRT-LLM 1\.0 or later .*container"
    ):
        started(NoSpec())


def test_a_reset_forgets_reused_blocks_with_the_engine_and_else_nothing() -> None:
    for caches in (False, True):
        adapter = started(NoSpec(), TensorRTLLMEngine(max_num_seqs=4, enable_prefix_caching=caches))
        before = adapter._engine
        asyncio.run(adapter.reset())
        assert (adapter._engine is before) is not caches
