"""Event streams as each kind of server writes them, made by hand from its source or after a recorded stream.

TensorRT-LLM's server was never run: its events are constructed from its source.
"""

import json
from collections.abc import Sequence
from typing import Any

DONE = b"data: [DONE]\n\n"


def encode(events: Sequence[dict[str, Any]], tail: bytes = DONE) -> bytes:
    """Returns an event stream."""
    return b"".join(b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n" for event in events) + tail


def tensorrt_llm(sizes: Sequence[int], steps: Sequence[int], *, num_prompt_tokens: int = 10) -> list[dict[str, Any]]:
    """Returns the events of one request to trtllm-serve.

    Args:
        sizes: the tokens of each event.
        steps: the engine steps up to each event.
        num_prompt_tokens: of the request.
    """
    found: list[dict[str, Any]] = []
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "target"}
    emitted = 0
    for size, step in zip(sizes, steps, strict=True):
        emitted += size
        choice = {"index": 0, "text": "", "token_ids": [7] * size, "logprobs": None, "finish_reason": None}
        choice |= {"stop_reason": None, "avg_decoded_tokens_per_iter": emitted / step}
        found.append({**head, "choices": [choice], "usage": None})
    found[-1]["choices"][0]["finish_reason"] = "length"
    usage = {"prompt_tokens": num_prompt_tokens, "total_tokens": num_prompt_tokens + emitted}
    usage |= {"completion_tokens": emitted, "prompt_tokens_details": {"cached_tokens": 0}}
    return [*found, {**head, "choices": [], "usage": usage}]
