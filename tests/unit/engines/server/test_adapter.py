"""What the adapter of every server does."""

import asyncio
import sys
from types import SimpleNamespace

import pytest

from specdec_bench.config.schema.engine import LlamaCppServerEngine
from specdec_bench.engines.server import llama_cpp, timed_socket
from specdec_bench.engines.server.adapter import PROCESS_TIMES
from specdec_bench.records.manifest import EngineDescription
from tests.helpers import build

DESCRIPTION = EngineDescription(
    arguments={}, resolved={}, max_seq_len=None, num_accelerators=0, reproducible=False, notes=("its own",)
)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}")
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(("platform", "notes"), [("linux", ("its own",)), ("darwin", ("its own", PROCESS_TIMES))])
def test_a_run_says_where_the_kernel_tells_no_times(
    monkeypatch: pytest.MonkeyPatch, platform: str, notes: tuple[str, ...]
) -> None:
    monkeypatch.setattr(timed_socket, "sys", SimpleNamespace(platform=platform, maxsize=sys.maxsize))

    async def notes_of_a_start() -> tuple[str, ...]:
        server = await asyncio.start_server(_serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        adapter = llama_cpp.create(build.experiment(engine=LlamaCppServerEngine(url=url)))

        async def identify() -> EngineDescription:
            await adapter._client.request("GET", "/props")
            return DESCRIPTION

        monkeypatch.setattr(adapter, "_identify", identify)
        await adapter.start()
        await adapter.stop()
        server.close()
        return adapter.describe().notes

    assert asyncio.run(notes_of_a_start()) == notes
