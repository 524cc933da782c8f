"""The LLM and its results, as TensorRT-LLM's behave: one growing object a request, a response at a time."""

import asyncio
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .llmapi import RequestError, llm_args


class Response(NamedTuple):
    """What the executor says of a request: new tokens, the steps so far, and how it ends."""

    token_ids: list[int]
    decoding_iter: int
    finish_reason: str | None = None
    error: str | Exception | None = None
    """A text fails the request, an exception shuts the executor down, as in GenerationExecutor."""


@dataclass
class CompletionOutput:
    """A request's output so far."""

    token_ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None


class RequestOutput:
    """A request: each round of iterating takes in one response and gives this same object."""

    def __init__(self, responses: AsyncIterator[Response], llm: "LLM") -> None:
        self.outputs = [CompletionOutput()]
        self.decoding_iter = 0
        self.avg_decoded_tokens_per_iter: float | None = None
        self.finished = self.is_aborted = False
        self._responses, self._llm = responses, llm

    def __aiter__(self) -> "RequestOutput":
        return self

    async def __anext__(self) -> "RequestOutput":
        if self.finished:
            raise StopAsyncIteration
        response = await anext(self._responses)
        if self.is_aborted:
            response = Response([], self.decoding_iter, "cancelled")
        if isinstance(response.error, Exception):
            self._llm.shutdown()
            raise response.error
        if response.error is not None:
            raise RequestError(response.error)
        output = self.outputs[0]
        output.token_ids.extend(response.token_ids)  # the list that was handed out before
        output.finish_reason = response.finish_reason
        self.decoding_iter = response.decoding_iter
        if response.decoding_iter:
            mean = len(output.token_ids) / response.decoding_iter
            self.avg_decoded_tokens_per_iter = struct.unpack("f", struct.pack("f", mean))[0]  # a C++ float
        self.finished = response.finish_reason is not None
        return self

    def abort(self) -> None:
        """Gives the request up."""
        self.is_aborted = True
        self._llm.aborted.append(self)


class LLM:
    """Takes what the real one takes, and answers with a script, or counts on from the sum of the prompt."""

    ARGS: Any = llm_args.TorchLlmArgs
    BACKEND = "pytorch"

    def __init__(self, **arguments: Any) -> None:
        self.args = self.ARGS(**arguments)
        decoding = self.args.speculative_config
        if decoding is not None and not decoding.supports_backend(self.BACKEND):
            raise ValueError(f"{type(decoding).__name__} is not for backend {self.BACKEND}")
        self.script: list[Response] | None = None
        self.requests: list[Any] = []
        """The sampling parameters of every request."""
        self.results: list[RequestOutput] = []
        self.aborted: list[RequestOutput] = []
        self.is_shut_down = False

    def generate_async(self, inputs: list[int], sampling_params: Any, streaming: bool) -> RequestOutput:
        """Returns the request, under way."""
        assert streaming
        self.requests.append(sampling_params)
        result = RequestOutput(self._answer(sum(inputs), sampling_params), self)
        self.results.append(result)
        return result

    async def _answer(self, first: int, sampling: Any) -> AsyncIterator[Response]:
        if self.script is not None:
            for response in self.script:
                yield response
            return
        decoding = self.args.speculative_config
        drafts = 0 if decoding is None else decoding.max_draft_len or decoding.num_nextn_predict_layers
        stops = set() if sampling.ignore_eos else {sampling.end_id, *(sampling.stop_token_ids or ())}
        num_tokens, step, reason = 0, 0, None
        while reason is None:
            await asyncio.sleep(0.002)
            step += 1
            tokens: list[int] = []
            # All drafts are accepted in every other decode step, and none in the others.
            for _ in range(1 + (drafts if step % 2 == 0 else 0)):
                tokens.append(first + num_tokens)
                num_tokens += 1
                reason = "stop" if tokens[-1] in stops else "length" if num_tokens == sampling.max_tokens else None
                if reason is not None:
                    break
            yield Response(tokens, step, reason)

    def shutdown(self) -> None:
        """Ends the executor."""
        self.is_shut_down = True
