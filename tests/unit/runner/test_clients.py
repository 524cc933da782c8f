"""When a client counts as stopped. It is a process of its own, whose server is not there."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from specdec_bench.archive.redact import Secrets
from specdec_bench.archive.writer import RequestWriter
from specdec_bench.config.schema.engine import VLLMServerEngine
from specdec_bench.config.schema.load import ConstantLoad
from specdec_bench.engines.base import Attachment
from specdec_bench.errors import EngineError
from specdec_bench.records.manifest import EngineDescription
from specdec_bench.runner import clients
from specdec_bench.runner.clients import Clients
from specdec_bench.runner.messages import Assignment, Counts
from tests.helpers import build
from tests.helpers.command_line import children, is_alive

NOWHERE = "http://127.0.0.1:1"
DESCRIPTION = EngineDescription(arguments={}, resolved={}, max_seq_len=None, num_accelerators=0, reproducible=True)


def assignment(*, arrives_after_s: float, stall_timeout_s: float, num_prompt_tokens: int = 1) -> Assignment:
    """Returns the share of one client: one request."""
    return Assignment(
        config=build.experiment(
            engine=VLLMServerEngine(url=NOWHERE, stall_timeout_s=stall_timeout_s),
            load=ConstantLoad(rate=1 / arrives_after_s),
        ),
        prompts=[build.prompt()],
        first_token_ids=[tuple(range(num_prompt_tokens))],
        stop_token_ids=(),
        has_totals=False,
        attachment=Attachment(url=NOWHERE, api_key=None, state={"_description": DESCRIPTION}),
        secrets=Secrets(),
        index=0,
        num_clients=1,
    )


def run(folder: Path, share: Assignment, freeze_before: str = "") -> str:
    """Runs one client to its end, frozen before its share is sent to it or before it begins. Returns its error."""

    async def serve() -> None:
        with RequestWriter(folder / "requests.jsonl") as writer, Clients(1, writer) as one:
            (pid,) = set(children(os.getpid())) - others
            try:
                if freeze_before == "prepare":
                    os.kill(pid, signal.SIGSTOP)
                await one.prepare(share)
                if freeze_before == "run":
                    os.kill(pid, signal.SIGSTOP)
                await one.run(Counts())
            finally:
                if freeze_before:
                    assert not is_alive(pid)

    others = set(children(os.getpid()))
    with pytest.raises(EngineError) as caught:
        asyncio.run(serve())
    assert set(children(os.getpid())) == others
    return str(caught.value)


@pytest.mark.parametrize(
    ("freeze_before", "num_prompt_tokens"),
    [("run", 1), ("prepare", 1), ("prepare", 1_000_000)],
    ids=["with nothing in flight", "before it begins", "before it has read its share"],
)
def test_a_frozen_client_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, freeze_before: str, num_prompt_tokens: int
) -> None:
    """The share of many tokens does not fit into the socket's buffer."""
    waited = "0.5 s, half of engine.stall_timeout_s"
    if freeze_before == "prepare":
        monkeypatch.setattr(clients, "BEGIN_TIMEOUT_S", 0.6)
        waited = "0.6 s, which is enough to start"
    share = assignment(arrives_after_s=600, stall_timeout_s=1, num_prompt_tokens=num_prompt_tokens)
    words = f"client 1 of 1 has stopped: it reported nothing for {waited}; what it had in flight is lost"
    assert run(tmp_path, share, freeze_before) == words


def test_a_client_that_waits_for_an_arrival_has_not_stopped(tmp_path: Path) -> None:
    share = assignment(arrives_after_s=2.5, stall_timeout_s=2)
    assert run(tmp_path, share).startswith(f"the server at {NOWHERE} is gone: ")
