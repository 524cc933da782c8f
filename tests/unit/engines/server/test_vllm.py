"""What the adapter of vLLM's server makes of counts, and what it takes from a server's statements."""

import asyncio
import json
from typing import Any, NoReturn

import pytest

from specdec_bench.config.schema.engine import VLLMServerEngine
from specdec_bench.config.schema.model import DraftCheckpoint, ModelConfig
from specdec_bench.config.schema.spec import DraftModelSpec
from specdec_bench.engines.server import identity, vllm
from specdec_bench.engines.server.completion import CompletionReply
from specdec_bench.engines.server.http import Client, Response
from specdec_bench.engines.server.steps import Steps
from specdec_bench.engines.server.vllm import VLLMServer
from specdec_bench.errors import ConfigError, EngineError
from specdec_bench.records.manifest import EngineDescription
from tests.helpers import build


def server(url: str | None = "http://127.0.0.1:1") -> VLLMServer:
    spec = DraftModelSpec(draft_length=3, draft=DraftCheckpoint(path="bundled:tiny/draft"))
    return VLLMServer(build.experiment(engine=VLLMServerEngine(url=url), spec=spec))


def reply(sizes: list[int], accepted: list[int]) -> CompletionReply:
    found = CompletionReply()
    for number, size in enumerate(sizes):
        event: dict[str, Any] = {"choices": [{"token_ids": [7] * size}]}
        found.take(b"data: " + json.dumps(event).encode() + b"\n\n", number)
    drafts = {
        "num_spec_steps": len(accepted),
        "num_accepted_draft_tokens": sum(accepted),
        "num_draft_tokens": 3 * len(accepted),
        "acceptance_histogram": [accepted.count(number) for number in range(4)],
        "per_step_accepted": accepted,
        "per_step_drafted": [3] * len(accepted),
    }
    found.take(b"data: " + json.dumps({"metrics": {"speculative_decoding": drafts}}).encode() + b"\n\n", len(sizes))
    return found


@pytest.mark.parametrize(("max_seq_len", "num_decode_steps"), [(2048, 2), (16, 3), (None, 2)])
def test_the_last_step_of_a_full_context_has_no_draft(max_seq_len: int | None, num_decode_steps: int) -> None:
    """10 prompt tokens and 6 of the reply fill 16: prefill 1, two verify steps of 3 and 1, one step without drafts."""
    adapter = server()
    adapter._description = EngineDescription(
        arguments={}, resolved={}, max_seq_len=max_seq_len, num_accelerators=1, reproducible=False
    )
    _, steps = adapter._count(reply([1, 3, 1, 1], [2, 0]), num_prompt_tokens=10)
    assert steps.num_decode_steps == num_decode_steps


def without_lists(found: CompletionReply) -> CompletionReply:
    """Returns the reply as --per-request-spec-decode-metrics summary has it."""
    assert found.drafts is not None
    found.drafts.per_step_accepted = found.drafts.per_step_drafted = None
    return found


@pytest.mark.parametrize(
    ("sizes", "steps"),
    [
        ([1, 3, 1, 4], Steps([0, 3, 3, 3], [0, 2, 0, 3], 3)),
        ([1, 4, 4], Steps([None] * 3, [None] * 3, 3)),
    ],
    ids=["a step in each event", "joined"],
)
def test_steps_are_rebuilt_from_the_histogram_where_there_are_no_lists(sizes: list[int], steps: Steps) -> None:
    adapter = server()
    adapter._description = EngineDescription(
        arguments={}, resolved={}, max_seq_len=2048, num_accelerators=1, reproducible=False
    )
    counters, found = adapter._count(without_lists(reply(sizes, [2, 0, 3])), num_prompt_tokens=10)
    assert found == steps
    assert counters is not None
    assert (counters.num_verify_steps, counters.num_accepted, counters.num_proposed) == (3, 5, 9)
    assert counters.histogram == (1, 0, 1, 1)
    assert counters.per_step_accepted is counters.per_step_proposed is None


def test_a_histogram_that_contradicts_the_totals_is_refused() -> None:
    adapter, found = server(), without_lists(reply([1, 3], [2]))
    adapter._description = EngineDescription(
        arguments={}, resolved={}, max_seq_len=2048, num_accelerators=1, reproducible=False
    )
    assert found.drafts is not None
    found.drafts.acceptance_histogram = [0, 1, 0, 0]
    with pytest.raises(EngineError, match="contradict each other"):
        adapter._count(found, num_prompt_tokens=10)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_spec_steps", 2),
        ("num_accepted_draft_tokens", 1),
        ("num_draft_tokens", 4),
        ("per_step_drafted", [1]),
        ("per_step_drafted", []),
        ("per_step_accepted", [3]),
        ("acceptance_histogram", [1, 0, 0, 0]),
        ("acceptance_histogram", []),
    ],
)
def test_counts_that_contradict_each_other_are_refused(name: str, value: object) -> None:
    """The reply's only verify step accepted 2 of 3 drafts."""
    adapter, found = server(), reply([1, 3], [2])
    adapter._description = EngineDescription(
        arguments={}, resolved={}, max_seq_len=2048, num_accelerators=1, reproducible=False
    )
    assert found.drafts is not None
    assert adapter._count(found, num_prompt_tokens=10)[1].num_decode_steps == 1
    setattr(found.drafts, name, value)
    with pytest.raises(EngineError, match="contradict each other"):
        adapter._count(found, num_prompt_tokens=10)


@pytest.mark.parametrize(
    ("known", "absent"),
    [
        (None, []),
        (["per_request_spec_decode_metrics", "enable_per_request_metrics"], []),
        (["enable_per_request_metrics"], ["--per-request-spec-decode-metrics"]),  # 0.26
        ([], ["--per-request-spec-decode-metrics", "--enable-per-request-metrics"]),
    ],
)
def test_a_release_is_not_given_arguments_that_it_lacks(
    monkeypatch: pytest.MonkeyPatch, known: list[str] | None, absent: list[str]
) -> None:
    monkeypatch.setattr(vllm, "server_arguments", lambda: None if known is None else frozenset(known))
    adapter = server(url=None)
    asyncio.run(adapter._prepare())
    command = adapter._launch(8000, "key").command
    flags = ["--per-request-spec-decode-metrics", "--enable-per-request-metrics"]
    assert [flag for flag in flags if flag not in command] == absent
    assert ("detailed" in command) == (flags[0] in command)


class Told(Client):
    """Answers from a table."""

    def __init__(self, models: Any) -> None:
        super().__init__("http://127.0.0.1:1")
        self._models = models

    async def request(self, method: str, path: str, *_: Any, **__: Any) -> Response:
        return Response(status=200, body=json.dumps({"data": self._models}).encode())

    async def send(self, *_: Any, **__: Any) -> NoReturn:
        raise AssertionError


MODELS = [
    {"id": "small", "root": "/models/Other-1B", "max_model_len": 512},
    {"id": "served", "root": "/models/Llama-8B", "max_model_len": 2048},
]


@pytest.mark.parametrize(
    ("path", "is_claimed"), [("/models/Llama-8B", False), ("served", False), ("meta/llama-8b", True)]
)
def test_the_model_is_found_under_its_path_or_claimed_under_its_name(path: str, is_claimed: bool) -> None:
    found = asyncio.run(identity.find_model(Told(MODELS), ModelConfig(name="m", path=path), None))
    assert found == ("served", 2048, is_claimed)


def test_another_model_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"model\.path=a/b: the server serves /models/Other-1B, /models/Llama-8B"):
        asyncio.run(identity.find_model(Told(MODELS), ModelConfig(name="m", path="a/b"), None))


def test_another_server_on_the_port_of_ours_is_refused() -> None:
    with pytest.raises(EngineError, match="another server than the one that was started"):
        asyncio.run(identity.find_model(Told(MODELS), ModelConfig(name="m", path="a/b"), "specdec-bench-1"))
