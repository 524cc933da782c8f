"""A stand-in for trtllm-serve: `python -m tensorrt_llm.commands.serve serve MODEL --port N ...`.

Routes, fields, refusals and the form of events are those of the server's source; the commits are in
specdec_bench/engines/server/tensorrt_llm.py. A request gets the token id 7: one token from the prefill, then one a step
in plain decoding, and with drafts K + 1 tokens and one in turn.
"""

import asyncio
import json
import sys
from typing import Any

from tensorrt_llm import __version__
from tensorrt_llm._signatures import CLASSES

KNOWN = {
    *("model", "prompt", "max_tokens", "temperature", "top_p", "top_k", "seed", "ignore_eos", "stop_token_ids"),
    *("include_stop_str_in_output", "detokenize", "stream", "stream_options"),
}
"""Those fields of CompletionRequest that a client may need. It forbids any other."""


class Server:
    """One server, with its arguments from the file."""

    def __init__(self, model: str, arguments: dict[str, Any]) -> None:
        fields = set(CLASSES["TorchLlmArgs"].model_fields)
        if unknown := set(arguments) - fields:
            raise SystemExit(f"TorchLlmArgs: extra fields not permitted: {sorted(unknown)}")
        if arguments.get("skip_tokenizer_init"):
            raise SystemExit("the server needs its tokenizer")
        decoding = dict(arguments.get("speculative_config") or {})
        if decoding:
            decoding.pop("decoding_type")
        self._draft_length = int(decoding.get("max_draft_len", 0))
        self._model = model

    def _sizes(self, limit: int) -> list[int]:
        sizes, number = [1], 0
        while sum(sizes) < limit:
            number += 1
            sizes.append(min(self._draft_length + 1 if number % 2 else 1, limit - sum(sizes)))
        return sizes

    def events(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """Returns a request's events: one for each engine step, and one with its usage."""
        head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": self._model}
        sizes, emitted, found = self._sizes(int(request["max_tokens"])), 0, []
        for step, size in enumerate(sizes, 1):
            emitted += size
            ids = [7] * size if request.get("detokenize") is False else None
            choice = {"index": 0, "text": "", "token_ids": ids, "logprobs": None, "stop_reason": None}
            choice["finish_reason"] = "length" if step == len(sizes) else None
            choice["avg_decoded_tokens_per_iter"] = emitted / step
            found.append({**head, "choices": [choice], "usage": None})
        num_prompt = len(request["prompt"])
        usage = {"prompt_tokens": num_prompt, "total_tokens": num_prompt + emitted, "completion_tokens": emitted}
        return [*found, {**head, "choices": [], "usage": usage}]

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers the requests of one connection."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().lower().split("\r\n")
                length = next((line[16:] for line in lines if line.startswith("content-length: ")), "0")
                body = await reader.readexactly(int(length))
                method, path, _ = lines[0].split()
                if (method, path) == ("post", "/v1/completions"):
                    self._complete(writer, json.loads(body))
                else:
                    models = {"object": "list", "data": [{"id": self._model, "object": "model", "created": 1}]}
                    known: dict[str, Any] = {"/health": "", "/version": {"version": __version__}, "/v1/models": models}
                    found = path in known
                    told = known.get(path, {"detail": "Not Found"})
                    _write(writer, 200 if found else 404, told)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    def _complete(self, writer: asyncio.StreamWriter, request: dict[str, Any]) -> None:
        if unknown := set(request) - KNOWN:
            _write(writer, 400, {"error": f"extra fields not permitted: {sorted(unknown)}"})
            return
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for event in self.events(request):
            data = b"data: " + json.dumps(event).encode() + b"\n\n"
            writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")


def _write(writer: asyncio.StreamWriter, status: int, content: Any) -> None:
    body = json.dumps(content).encode() if content else b""
    writer.write(b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\n" % status)
    writer.write(b"content-length: %d\r\n\r\n%b" % (len(body), body))


async def main(words: list[str]) -> None:
    """Serves until it is ended. Prints its port."""
    assert words[0] == "serve"
    options = dict(zip(words[2::2], words[3::2], strict=True))
    assert options.get("--backend") == "pytorch"
    with open(options["--extra_llm_api_options"], encoding="utf-8") as file:
        server = Server(words[1], json.load(file))
    listening = await asyncio.start_server(server.answer, options["--host"], int(options["--port"]))
    print(listening.sockets[0].getsockname()[1], flush=True)
    await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
