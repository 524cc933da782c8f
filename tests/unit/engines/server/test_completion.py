"""Event streams of a real vLLM 0.32 server, shortened to the fields that are read."""

import json
from typing import Any

import pytest

from specdec_bench.engines.server.completion import CompletionReply
from specdec_bench.engines.server.vllm import command_line
from specdec_bench.errors import EngineError

DRAFTS = {
    "mean_acceptance_length": 2.6,
    "acceptance_histogram": [1, 1, 2, 1],
    "num_spec_steps": 5,
    "num_accepted_draft_tokens": 8,
    "num_draft_tokens": 15,
    "num_spec_tokens": 3,
    "per_step_accepted": [2, 0, 1, 2, 3],
    "per_step_drafted": [3, 3, 3, 3, 3],
}


def token_event(*ids: int, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "text": "x", "finish_reason": finish, "token_ids": list(ids), **more}]}


def usage(completion: int = 12, **metrics: Any) -> dict[str, Any]:
    return {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": completion}, "metrics": metrics}


EVENTS = [
    token_event(267, prompt_token_ids=list(range(10))),
    token_event(280, 19, 274),
    token_event(1),
    token_event(2, 3),
    token_event(4, 5, 6),
    token_event(19, 492, finish="length"),
    usage(speculative_decoding=DRAFTS, queue_time_ms=0.0955, time_to_first_token_ms=16.64),
]


def reply(events: list[dict[str, Any]], tail: bytes = b"data: [DONE]\n\n") -> CompletionReply:
    found = CompletionReply()
    for number, event in enumerate(events):
        found.take(b"data: " + json.dumps(event).encode() + b"\n\n", number)
    found.take(tail, len(events))
    return found


def test_a_whole_reply_has_its_tokens_times_and_counts() -> None:
    found = reply(EVENTS)
    assert found.check() == "length"
    assert found.log.sizes == [1, 3, 1, 2, 3, 2]
    assert found.log.times_ns == [0, 1, 2, 3, 4, 5]
    assert found.num_prompt_tokens == 10
    assert found.drafts is not None
    assert found.drafts.per_step_accepted == [2, 0, 1, 2, 3]
    assert (found.times.queue_ms, found.times.ttft_ms) == (0.0955, 16.64)


ERROR = {"error": {"message": "EngineCore encountered an issue.", "type": "InternalServerError", "code": 500}}


@pytest.mark.parametrize(
    ("events", "tail", "words"),
    [
        ([*EVENTS[:3], ERROR], b"data: [DONE]\n\n", "gave the request up: EngineCore encountered an issue"),
        (EVENTS[:-1], b"data: [DONE]\n\n", "without the event that counts its tokens"),
        (EVENTS[:3], b"data: [DONE]\n\n", "finish_reason None"),
        ([*EVENTS[:-1], usage(11)], b"", "counts 11 tokens, and 12 came"),
        (EVENTS, b'data: {"cho', "in the middle of an event"),
        ([{"choices": [{"index": 0, "text": "x", "finish_reason": "length"}]}, usage(1)], b"", "no token ids back"),
    ],
)
def test_done_proves_nothing(events: list[dict[str, Any]], tail: bytes, words: str) -> None:
    with pytest.raises(EngineError, match=words):
        reply(events, tail).check()


def test_an_event_that_is_no_json_is_refused() -> None:
    with pytest.raises(EngineError, match="not a completion"):
        CompletionReply().take(b"data: <html>\n\n", 0)


def test_arguments_become_flags() -> None:
    arguments = {
        "max_model_len": 2048,
        "enforce_eager": True,
        "enable_prefix_caching": False,
        "speculative_config": {"k": 1},
    }
    assert command_line(arguments) == [
        *("--max-model-len", "2048", "--enforce-eager", "--no-enable-prefix-caching"),
        *("--speculative-config", '{"k": 1}'),
    ]
