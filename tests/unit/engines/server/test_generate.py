"""Event streams of a real SGLang 0.5.20 server, shortened to a few fields."""

import json
from typing import Any

import pytest

from specdec_bench.engines.server.generate import GenerateReply
from specdec_bench.errors import EngineError
from specdec_bench.records.request import RequestMade, ServerTimes

SIZES = ((267,), (280, 19, 274), (1,), (2, 3), (4, 5, 6), (19, 492))
COUNTS = {
    "spec_accept_rate": 0.533,
    "spec_accept_length": 2.4,
    "spec_num_correct_drafts": 8,
    "spec_num_proposed_drafts": 15,
    "spec_verify_ct": 5,
    "spec_correct_drafts_histogram": [1, 1, 2, 1],
}
TIMES = {"queue_time": 0.0003, "forward_entry_time": 1795649071.5, "prefill_finished_time": 1795649071.75}
LENGTH = {"type": "length", "length": 12}


def events(*, is_cumulative: bool = False) -> list[dict[str, Any]]:
    found, so_far = [], []
    for new in SIZES:
        so_far += new
        meta: dict[str, Any] = {"id": "64f1", "finish_reason": None, "prompt_tokens": 10, "cached_tokens": 0}
        meta |= {"completion_tokens": len(so_far), "num_retractions": 0}
        found.append({"text": "naïve", "output_ids": list(so_far if is_cumulative else new), "meta_info": meta})
    found[-1]["meta_info"] |= {"finish_reason": LENGTH, **COUNTS, **TIMES}
    return found


def encoded(found: list[dict[str, Any]], tail: bytes = b"data: [DONE]\n\n") -> bytes:
    lines = (b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n" for event in found)
    return b"".join(lines) + tail


def reply(found: list[dict[str, Any]], tail: bytes = b"data: [DONE]\n\n") -> GenerateReply:
    made = GenerateReply()
    made.take(encoded(found, tail), 5)
    return made


@pytest.mark.parametrize("is_cumulative", [False, True])
@pytest.mark.parametrize("length", [1, 7, 100, 10_000])
def test_a_whole_reply_has_its_tokens_times_and_counts_however_it_is_cut(length: int, is_cumulative: bool) -> None:
    """Pieces of 1 byte cut the two bytes of `ï` apart."""
    body, made = encoded(events(is_cumulative=is_cumulative)), GenerateReply()
    for at in range(0, len(body), length):
        made.take(body[at : at + length], at)
    assert made.check() == "length"
    assert made.log.sizes == [1, 3, 1, 2, 3, 2]
    assert made.log.token_ids == [267, 280, 19, 274, 1, 2, 3, 4, 5, 6, 19, 492]
    assert made.log.times_ns == sorted(made.log.times_ns)
    assert (made.meta.spec_verify_ct, made.num_accepted, made.histogram) == (5, 8, [1, 1, 2, 1])
    times = ServerTimes(queue_ms=0.3, ttft_ms=250.0)
    assert made.made == RequestMade(num_prompt_tokens=10, num_preemptions=0, server_times=times)


def test_the_names_of_older_releases_are_read() -> None:
    found = events()
    meta = found[-1]["meta_info"]
    meta["spec_accepted_drafts"] = meta.pop("spec_num_correct_drafts")
    meta["spec_accept_histogram"] = meta.pop("spec_correct_drafts_histogram")
    made = reply(found)
    assert (made.num_accepted, made.histogram) == (8, [1, 1, 2, 1])


def test_an_event_without_new_tokens_is_no_step() -> None:
    found = events()
    last = {**found[-1], "output_ids": []}
    found[-1] = {**found[-1], "meta_info": {**found[-1]["meta_info"], "finish_reason": None}}
    assert reply([*found, last]).log.sizes == [1, 3, 1, 2, 3, 2]


def abort(message: str | None) -> dict[str, Any]:
    meta = {"finish_reason": {"type": "abort", "message": message, "status_code": 500}, "completion_tokens": 4}
    return {"output_ids": [], "meta_info": meta}


ERROR = {"error": {"message": "Requested token count exceeds", "type": "invalid_request_error", "code": 400}}


@pytest.mark.parametrize(
    ("found", "tail", "words"),
    [
        ([*events()[:2], ERROR], b"data: [DONE]\n\n", "gave the request up: Requested token count exceeds"),
        ([ERROR], b"data: [DONE]\n\n", "gave the request up: Requested token count exceeds"),
        ([*events()[:2], abort("out of memory")], b"data: [DONE]\n\n", "gave the request up: out of memory"),
        ([*events()[:2], abort(None)], b"data: [DONE]\n\n", "gave the request up: aborted"),
        (events()[:-1], b"data: [DONE]\n\n", "finish_reason None"),
        (events(), b'data: {"out', "in the middle of an event"),
        ([{**events()[-1], "output_ids": []}], b"", "no token ids back"),
    ],
)
def test_done_proves_nothing(found: list[dict[str, Any]], tail: bytes, words: str) -> None:
    with pytest.raises(EngineError, match=words):
        reply(found, tail).check()


def test_tokens_that_are_lost_are_noticed() -> None:
    """The event of 3 tokens does not come, and the next one counts 5."""
    found = events()
    with pytest.raises(EngineError, match="counts 5 tokens so far; 1 had come, and 1 came"):
        reply([found[0], *found[2:]])


@pytest.mark.parametrize("data", [b"data: <html>\n\n", b'data: {"output_ids": "abc"}\n\n', b"data: [1]\n\n"])
def test_an_event_of_something_else_is_refused(data: bytes) -> None:
    with pytest.raises(EngineError, match="none of SGLang's"):
        GenerateReply().take(data, 0)
