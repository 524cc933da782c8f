"""The adapter of TensorRT-LLM's server, on events constructed from the server's source. The server was not run."""

import json
from pathlib import Path
from typing import Any

import pytest

from specdec_bench.config.schema.engine import TensorRTLLMServerEngine
from specdec_bench.config.schema.model import DraftCheckpoint, ModelConfig
from specdec_bench.config.schema.spec import Eagle3Spec, NoSpec, SpecConfig
from specdec_bench.engines.server.http import error_message
from specdec_bench.engines.server.prometheus import Metrics
from specdec_bench.engines.server.tensorrt_llm import DECODING_TYPES, TensorRTLLMServer, file_arguments
from specdec_bench.engines.server.tensorrt_llm_reply import TensorRTLLMReply
from specdec_bench.engines.tensorrt_llm import arguments as llm_arguments
from specdec_bench.engines.tensorrt_llm.arguments import Release
from specdec_bench.errors import ConfigError, EngineError
from specdec_bench.records.request import AcceptanceCounters, GenerationRequest, RequestSampling
from tests.helpers import build
from tests.helpers.constructed_events import encode, tensorrt_llm
from tests.stand_ins import signatures

DRAFTING = Eagle3Spec(draft_length=3, draft=DraftCheckpoint(path="org/head"))


def server(spec: SpecConfig = DRAFTING, **engine: Any) -> TensorRTLLMServer:
    model = ModelConfig(name="m", path="org/target", dtype="bfloat16", max_seq_len=2048)
    options = {"max_num_seqs": 8, **engine}
    return TensorRTLLMServer(build.experiment(engine=TensorRTLLMServerEngine(**options), model=model, spec=spec))


def release() -> Release:
    classes = signatures.load("tensorrt_llm.json")
    return Release(
        version="of the signatures",
        known=signatures.field_names(classes, "TorchLlmArgs"),
        fields={n: signatures.field_names(classes, n) for n in llm_arguments.CLASSES if n in classes},
    )


def reply(sizes: list[int], steps: list[int]) -> TensorRTLLMReply:
    found = TensorRTLLMReply()
    found.take(encode(tensorrt_llm(sizes, steps)), 5)
    return found


def test_the_mean_tells_the_steps_and_no_drafts() -> None:
    """The prefill, then steps of 4, 1 and 2 tokens: 8 / 4 = 2 tokens per step."""
    found = reply([1, 4, 1, 2], [1, 2, 3, 4])
    assert found.check() == "length"
    counters, steps = server()._count(found, 10)
    assert counters == AcceptanceCounters(num_verify_steps=None, num_accepted=None)
    assert steps == ([0, None, None, None], [0, None, None, None], 3)
    assert found.has_single_steps
    assert found.made.num_prompt_tokens == 10


def test_joined_steps_are_known_to_be_joined() -> None:
    found = reply([1, 5, 2], [1, 3, 4])
    _, steps = server()._count(found, 10)
    assert steps == ([None] * 3, [None] * 3, 3)
    assert not found.has_single_steps


def test_plain_decoding_takes_a_step_for_each_token() -> None:
    assert server(NoSpec())._count(reply([1, 1, 2], [1, 2, 4]), 10) == (None, ([0, 0, None], [0, 0, None], 3))
    with pytest.raises(EngineError, match=r"tells 3 engine steps for 4 tokens: .* or drafts"):
        server(NoSpec())._count(reply([1, 1, 2], [1, 2, 3]), 10)


def count(events: list[dict[str, Any]]) -> None:
    found = TensorRTLLMReply()
    found.take(encode(events), 0)
    server()._count(found, 10)


@pytest.mark.parametrize(("mean", "words"), [(0.5, "tells 2 engine steps for 1 tokens"), (1.6, "=1.6 for 1 tokens")])
def test_a_mean_of_no_whole_number_of_steps_is_refused(mean: float, words: str) -> None:
    events = tensorrt_llm([1], [1])
    events[0]["choices"][0]["avg_decoded_tokens_per_iter"] = mean
    with pytest.raises(EngineError, match=words):
        count(events)


def test_a_server_without_the_mean_has_the_stream_alone() -> None:
    events = tensorrt_llm([1, 3], [1, 2])
    for event in events[:-1]:
        event["choices"][0]["avg_decoded_tokens_per_iter"] = None
    found = TensorRTLLMReply()
    found.take(encode(events), 0)
    assert found.check() == "length"
    assert server()._count(found, 10) == (None, ([None, None], [None, None], None))
    assert server(NoSpec())._count(found, 10) == (None, ([0, None], [0, None], 3))


def test_a_request_is_token_ids_and_asks_for_token_ids() -> None:
    sampling = RequestSampling(max_new_tokens=9, temperature=0.5, top_p=0.9, top_k=3, seed=4, stop_token_ids=(3, 4))
    request = GenerationRequest(request_id="r", prompt_token_ids=(5, 6), sampling=sampling)
    adapter = server()
    adapter._served_as = "target"
    sent = json.loads(adapter._body(request))
    common = {
        "model": "target",
        "prompt": [5, 6],
        "max_tokens": 9,
        "include_stop_str_in_output": True,
        "detokenize": False,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    chosen = {"temperature": 0.5, "top_p": 0.9, "top_k": 3, "seed": 4}
    assert sent == {**common, **chosen, "ignore_eos": False, "stop_token_ids": [3, 4]}
    greedy = GenerationRequest(request_id="r", prompt_token_ids=(5, 6), sampling=RequestSampling(max_new_tokens=9))
    assert json.loads(adapter._body(greedy)) == {**common, "top_k": 1, "ignore_eos": True, "stop_token_ids": []}


def test_it_starts_with_the_arguments_of_the_engine_in_process() -> None:
    adapter = server()
    adapter._arguments = adapter._arguments_for(release())
    in_process = llm_arguments.engine_arguments(adapter._config, release())
    assert in_process.pop("skip_tokenizer_init") is True
    assert adapter._arguments == in_process
    launch = adapter._launch(8123, "the-key")
    assert launch.command[1:5] == ["-m", "tensorrt_llm.commands.serve", "serve", "org/target"]
    assert launch.command[5:11] == ["--host", "127.0.0.1", "--port", "8123", "--backend", "pytorch"]
    assert "the-key" not in " ".join(launch.command)
    written = json.loads(Path(launch.command[-1]).read_text())
    assert "model" not in written
    assert (written["max_batch_size"], written["stream_interval"], written["dtype"]) == (8, 1, "bfloat16")
    assert written["kv_cache_config"] == {"enable_block_reuse": False}
    assert written["speculative_config"] == {
        "decoding_type": "Eagle",
        "max_draft_len": 3,
        "speculative_model_dir": "org/head",
    }
    assert adapter._folder is not None
    adapter._folder.cleanup()


def test_an_object_without_a_type_is_its_fields() -> None:
    made = file_arguments(
        {"cuda_graph_config": None, "speculative_config": {"PARDDecodingConfig": {"max_draft_len": 4}}}
    )
    assert made == {
        "cuda_graph_config": None,
        "speculative_config": {"decoding_type": "PARD", "max_draft_len": 4},
    }
    assert set(llm_arguments.CLASSES) - {"KvCacheConfig", "CudaGraphConfig"} == set(DECODING_TYPES)


def test_an_argument_of_the_projects_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"engine.extra_args.port: the project sets this itself; use engine.url"):
        server(extra_args={"port": 1})._arguments_for(release())


def test_there_are_no_totals() -> None:
    assert server()._totals(Metrics(""), Metrics("")) is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"object":"error","message":"too long","type":"BadRequestError","param":null,"code":400}', "too long"),
        (b'{"error":"1 validation error: extra fields not permitted"}', "extra fields not permitted"),
    ],
)
def test_errors_are_told_in_the_servers_words(body: bytes, words: str) -> None:
    assert words in error_message(body)
