"""What the adapter of SGLang's server makes of counts and of what the server says, and how it starts one."""

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from specdec_bench.config.schema.engine import SGLangServerEngine
from specdec_bench.config.schema.model import DraftCheckpoint, ModelConfig
from specdec_bench.config.schema.spec import DraftModelSpec, NgramSpec, NoSpec, SpecConfig
from specdec_bench.engines.server import sglang_identity
from specdec_bench.engines.server.generate import GenerateReply
from specdec_bench.engines.server.http import Client, Response
from specdec_bench.engines.server.identity import ServedModel
from specdec_bench.engines.server.prometheus import Metrics
from specdec_bench.engines.server.sglang import SGLangServer, command_line
from specdec_bench.engines.sglang.release import Release
from specdec_bench.errors import ConfigError, EngineError
from specdec_bench.records.request import AcceptanceCounters, GenerationRequest, RequestSampling
from tests.helpers import build

URL = "http://127.0.0.1:1"
DRAFTING = DraftModelSpec(draft_length=3, draft=DraftCheckpoint(path="org/draft"))
KNOWN = (
    *("model_path", "dtype", "context_length", "trust_remote_code", "tp_size", "pp_size", "dp_size", "ep_size"),
    *("max_running_requests", "cuda_graph_max_bs_decode", "disable_radix_cache", "disable_cuda_graph"),
    *("speculative_algorithm", "speculative_num_draft_tokens", "speculative_num_steps", "speculative_eagle_topk"),
    *("speculative_draft_model_path", "skip_tokenizer_init", "stream_interval", "random_seed", "log_level"),
    *("enable_metrics", "incremental_streaming_output", "attention_backend", "speculative_ngram_max_trie_depth"),
    "speculative_ngram_max_bfs_breadth",
)
RELEASE = Release(version="0.5.20", known=KNOWN, algorithms=("STANDALONE", "NGRAM", "EAGLE"))


def server(spec: SpecConfig = DRAFTING, **engine: Any) -> SGLangServer:
    model = ModelConfig(name="m", path="org/target", dtype="float32", max_seq_len=2048)
    return SGLangServer(build.experiment(engine=SGLangServerEngine(**engine), model=model, spec=spec))


def reply(sizes: list[int], **counts: Any) -> GenerateReply:
    found, emitted = GenerateReply(), 0
    for number, size in enumerate(sizes):
        emitted += size
        meta: dict[str, Any] = {"completion_tokens": emitted}
        if number == len(sizes) - 1:
            meta |= {"finish_reason": {"type": "length"}, **counts}
        event = {"output_ids": [7] * size, "meta_info": meta}
        found.take(b"data: " + json.dumps(event).encode() + b"\n\n", number)
    return found


def test_steps_are_rebuilt_from_the_events_and_the_histogram() -> None:
    """Steps that accept 2, 0 and 3 drafts; the last one is cut from 4 tokens to 2."""
    counts = {"spec_verify_ct": 3, "spec_num_correct_drafts": 5, "spec_correct_drafts_histogram": [1, 0, 1, 1]}
    counters, steps = server()._count(reply([1, 3, 1, 2], **counts), 10)
    assert counters == AcceptanceCounters(num_verify_steps=3, num_accepted=5, num_proposed=9, histogram=(1, 0, 1, 1))
    assert steps == ([0, 3, 3, 3], [0, 2, 0, 3], 3)


def test_joined_steps_are_unknown_and_their_number_is_not() -> None:
    counts = {"spec_verify_ct": 3, "spec_num_correct_drafts": 5, "spec_correct_drafts_histogram": [1, 0, 1, 1]}
    _, steps = server()._count(reply([1, 4, 2], **counts), 10)
    assert steps == ([None] * 3, [None] * 3, 3)


def test_the_histogram_ends_at_the_most_accepted_and_lookups_have_no_number_of_proposals() -> None:
    counts = {"spec_verify_ct": 2, "spec_num_correct_drafts": 0, "spec_correct_drafts_histogram": [2]}
    counters, steps = server(NgramSpec(draft_length=3, ngram_max=3))._count(reply([1, 1, 1], **counts), 10)
    assert counters == AcceptanceCounters(num_verify_steps=2, num_accepted=0, histogram=(2, 0, 0, 0))
    assert steps == ([0, None, None], [0, 0, 0], 2)


def test_a_request_that_its_prefill_ended_verified_nothing() -> None:
    counters, steps = server()._count(reply([1]), 10)
    assert counters == AcceptanceCounters(num_verify_steps=0, num_accepted=0, num_proposed=0, histogram=(0, 0, 0, 0))
    assert steps == ([0], [0], 0)


def test_plain_decoding_has_no_counts() -> None:
    assert server(NoSpec())._count(reply([1, 1, 2]), 10) == (None, ([0, 0, None], [0, 0, None], 3))


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({}, "gives no counts"),
        ({"spec_verify_ct": 1}, "gives no counts"),
        *(
            (
                {"spec_verify_ct": v, "spec_num_correct_drafts": c, "spec_correct_drafts_histogram": h},
                "contradict each other",
            )
            for v, c, h in ((2, 2, [0, 0, 1]), (1, 3, [0, 0, 1]))
        ),
    ],
)
def test_counts_that_are_missing_or_contradict_each_other_are_refused(counts: dict[str, Any], words: str) -> None:
    with pytest.raises(EngineError, match=words):
        server()._count(reply([1, 3], **counts), 10)


def test_the_totals_are_verify_steps() -> None:
    name = "sglang:spec_verify_calls_total"
    before, after = Metrics(f'{name}{{model="m"}} 4.0\n'), Metrics(f'{name}{{model="m"}} 54.0\n')
    assert server()._totals(after, before) == AcceptanceCounters(num_verify_steps=50, num_accepted=None)
    assert server()._totals(Metrics(""), Metrics("")) is None


def test_a_request_is_token_ids_and_ends_at_its_own_stops() -> None:
    """SGLang's `ignore_eos` would switch them off."""
    sampling = RequestSampling(max_new_tokens=9, temperature=0.5, top_p=0.9, top_k=3, stop_token_ids=(3, 4))
    request = GenerationRequest(request_id="r", prompt_token_ids=(5, 6), sampling=sampling)
    assert json.loads(server()._body(request)) == {
        "input_ids": [5, 6],
        "stream": True,
        "sampling_params": {
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 3,
            "max_new_tokens": 9,
            "ignore_eos": False,
            "stop_token_ids": [3, 4],
        },
    }


def test_the_key_is_in_a_file_of_this_user_and_in_no_argument() -> None:
    adapter = server()
    adapter._arguments = adapter._arguments_for(RELEASE)
    launch = adapter._launch(8123, "the-key")
    assert launch.command[1:4] == ["-m", "sglang.launch_server", "--config"]
    file = Path(launch.command[4])
    assert json.loads(file.read_text()) == {"api-key": "the-key"}
    assert launch.command[5:9] == ["--host", "127.0.0.1", "--port", "8123"]
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert "the-key" not in " ".join(launch.command)
    assert adapter._folder is not None
    adapter._folder.cleanup()


def test_arguments_become_flags() -> None:
    arguments = {
        "max_running_requests": 4,
        "disable_radix_cache": True,
        "trust_remote_code": False,
        "lora_paths": ["a", "b"],
        "json_model_override_args": {"k": 1},
    }
    assert command_line(arguments) == [
        *("--max-running-requests", "4", "--disable-radix-cache", "--lora-paths", "a", "b"),
        *("--json-model-override-args", '{"k": 1}'),
    ]


def test_a_release_without_the_servers_options_is_started_without_them() -> None:
    known = tuple(name for name in KNOWN if name != "incremental_streaming_output")
    arguments = server()._arguments_for(Release(version="0.5.11", known=known, algorithms=RELEASE.algorithms))
    assert "incremental_streaming_output" not in arguments
    assert arguments["enable_metrics"] is True


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("port", "the project sets this itself; use engine.url"),
        ("host", "the project sets this itself; use engine.url"),
        ("api_key", "the project sets this itself; use engine.api_key_env"),
        ("enable_metrics", "the project needs it as True"),
        ("attention_backnd", "SGLang 0.5.20 has no such engine argument; did you mean attention_backend"),
    ],
)
def test_arguments_that_are_not_the_users_are_refused(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=f"engine.extra_args.{name}: {words}"):
        server(extra_args={name: "x"})._arguments_for(RELEASE)


TOLD: dict[str, Any] = {
    "sglang": "0.5.20",
    "model_path": "/models/target",
    "dtype": "float32",
    "trust_remote_code": False,
    **dict.fromkeys(("tp_size", "pp_size", "dp_size", "ep_size", "speculative_eagle_topk", "stream_interval"), 1),
    "max_running_requests": 48,
    "disable_radix_cache": True,
    "disable_cuda_graph": False,
    "context_length": None,
    "cuda_graph_max_bs_decode": None,
    "device": "cuda",
    "skip_tokenizer_init": False,
    "random_seed": 42,
    "log_level": "info",
    "speculative_algorithm": "STANDALONE",
    "speculative_num_steps": 3,
    "speculative_num_draft_tokens": 4,
    "speculative_draft_model_path": "org/draft",
}


def describe(told: dict[str, Any], spec: SpecConfig = DRAFTING, **engine: Any) -> Any:
    adapter = server(spec, url=URL, **engine)
    algorithms = sglang_identity.algorithms_of(adapter._config, told)
    arguments = adapter._arguments_for(Release(version="0.5.20", known=tuple(told), algorithms=algorithms))
    return sglang_identity.describe(adapter._config, arguments, ServedModel("served", 2048, False), told)


def test_a_server_that_runs_the_experiment_is_described() -> None:
    """Two positions of the context are the scheduler's."""
    found = describe(TOLD)
    assert (found.arguments, found.claimed, found.differences) == ({"url": URL}, (), ())
    assert (found.max_seq_len, found.num_accelerators, found.resolved["sglang"]) == (2046, 1, "0.5.20")
    assert found.is_elsewhere
    assert describe(TOLD | {"device": "cpu"}).num_accelerators == 0


@pytest.mark.parametrize(
    ("told", "claimed"),
    [
        ({"dtype": "auto"}, ("model.dtype",)),
        ({"speculative_draft_model_path": "/mnt/draft"}, ("spec.draft.path",)),
    ],
)
def test_what_the_server_leaves_open_is_the_users_claim(told: dict[str, Any], claimed: tuple[str, ...]) -> None:
    assert describe(TOLD | told).claimed == claimed


@pytest.mark.parametrize(
    ("told", "engine", "words"),
    [
        ({"speculative_num_steps": 5}, {}, f"spec.draft_length=3: the server at {URL} runs with 5"),
        ({"speculative_num_draft_tokens": 6}, {}, f"spec.draft_length=3: the server at {URL} drafts 5; set spec"),
        ({"speculative_algorithm": None}, {}, f"spec=draft_model: the server at {URL} does not draft"),
        ({"speculative_algorithm": "EAGLE"}, {}, f"spec=draft_model: the server at {URL} drafts by EAGLE"),
        ({"speculative_draft_model_path": "org/x"}, {}, "spec.draft.path=org/draft: the server drafts with org/x"),
        ({"disable_radix_cache": False}, {}, f"engine.enable_prefix_caching=False: the server at {URL} runs with True"),
        ({"dtype": "bfloat16"}, {}, f"model.dtype=float32: the server at {URL} runs with bfloat16"),
        ({"stream_interval": 8}, {}, "the server runs with stream_interval=8; start it with stream_interval=1"),
        ({}, {"max_num_seqs": 8}, f"engine.max_num_seqs=8: the server at {URL} runs with 48"),
        ({}, {"tensor_parallel_size": 2}, "engine.tensor_parallel_size=2"),
    ],
)
def test_a_server_that_runs_something_else_is_refused_by_name(
    told: dict[str, Any], engine: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        describe(TOLD | told, **engine)


def test_a_server_that_drafts_is_no_baseline() -> None:
    with pytest.raises(ConfigError, match=r"spec=none: the server at .* drafts by STANDALONE"):
        describe(TOLD, NoSpec())


class Told(Client):
    """Answers from a table; other routes are not there."""

    def __init__(self, answers: dict[str, tuple[int, Any]]) -> None:
        super().__init__(URL)
        self._answers = answers

    async def request(self, method: str, path: str, *_: Any, **__: Any) -> Response:
        status, body = self._answers.get(path, (404, {"detail": "Not Found"}))
        return Response(status=status, body=json.dumps(body).encode())


@pytest.mark.parametrize("route", ["/server_info", "/get_server_info"])
def test_the_arguments_are_read_without_the_key_and_what_changes(route: str) -> None:
    told = {"model_path": "m", "version": "0.5.16", "api_key": "k", "launch_command": "--api-key k", "startup_time": 1}
    found = asyncio.run(sglang_identity.read_configuration(Told({route: (200, told | {"internal_states": []})})))
    assert found == {"sglang": "0.5.16", "model_path": "m"}


@pytest.mark.parametrize(
    ("answers", "error", "words"),
    [
        ({"/server_info": (401, {"error": "Unauthorized"})}, ConfigError, "name its variable in engine.api_key_env"),
        ({}, EngineError, "does not answer /server_info as SGLang's server does"),
        ({"/server_info": (200, ["vllm"])}, EngineError, "does not answer /server_info as SGLang's server does"),
    ],
)
def test_what_does_not_tell_is_refused(answers: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        asyncio.run(sglang_identity.read_configuration(Told(answers)))
