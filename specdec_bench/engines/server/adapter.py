"""The adapter of a server: started by the run or running already, asked over HTTP, and stopped.

What tells one kind of server from another is in a subclass: its command, its requests, its events, its counts, and
what it says that it runs.
"""

import asyncio
import os
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import msgspec

from specdec_bench.archive.redact import known
from specdec_bench.config.schema.engine import ServerEngine
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.config.schema.spec import DraftingSpec
from specdec_bench.engines.base import Attachment
from specdec_bench.engines.server.http import Client, error_message
from specdec_bench.engines.server.process import ServerProcess, free_port
from specdec_bench.engines.server.prometheus import Metrics
from specdec_bench.engines.server.reply import Reply
from specdec_bench.engines.server.steps import Steps
from specdec_bench.errors import ConfigError, EngineDiedError, EngineError
from specdec_bench.records.manifest import EngineDescription
from specdec_bench.records.request import (
    AcceptanceCounters,
    GenerationRequest,
    RequestSampling,
    StepBatch,
)

R = TypeVar("R", bound=Reply)

HOST = "127.0.0.1"
"""Where a server listens that the run starts: development routes need no key, so nobody else may reach them."""
OWN_ARGUMENTS: Mapping[str, str] = {
    **dict.fromkeys(("host", "port", "uds"), "engine.url for a server that runs already"),
    "api_key": "engine.api_key_env for a server that runs already",
    "served_model_name": "model.path",
}
"""Arguments of a server that the run starts which the project decides, and what to use in their place."""
PROBE = (1, 2, 3)
"""Token ids that every vocabulary has."""
PROGRESS_S = 1.0
SETTLING_S = 5.0
"""How long the server's counters may lag behind its answers."""
PROCESS_TIMES = "the kernel does not tell when data came: an event has the time at which the client's process read it"


class Launch(NamedTuple):
    """How to start a server."""

    command: list[str]
    environment: Mapping[str, str]
    """In addition to this process's."""


class ServerAdapter(ABC, Generic[R]):
    """One server, for all cells of one engine configuration."""

    TITLE: ClassVar[str]
    """Whose server it is, for messages."""
    ROUTE: ClassVar[str]
    """Where requests go."""
    SHARED: ClassVar[tuple[str, ...]] = ("_served_as",)
    """What requests and replies depend on and `start()` finds out, which other processes have to be told."""
    REUSES_CONNECTIONS: ClassVar[bool] = True
    """Whether the server leaves a connection open after a stream, or says that it does not."""

    def __init__(self, config: ExperimentConfig) -> None:
        assert isinstance(config.engine, ServerEngine)
        self._config = config
        self._start_timeout_s = config.engine.start_timeout_s
        self._api_key_env = config.engine.api_key_env
        self._url = config.engine.url_for(config.spec)
        self._is_plain = not isinstance(config.spec, DraftingSpec)
        self._process: ServerProcess | None = None
        self._key: str | None = None
        self._served_as = f"specdec-bench-{secrets.token_hex(4)}"
        """The name by which requests call the model. Random, so that no other server is taken for this one."""
        self._before: Metrics | None = None
        self._description: EngineDescription | None = None

    @abstractmethod
    async def _prepare(self) -> None:
        """Gets the server's arguments ready.

        Raises:
            ConfigError: one of them is refused.
            EngineUnavailableError: the engine is missing, or lacks something that the configuration needs.
        """

    @abstractmethod
    def _launch(self, port: int, key: str) -> Launch:
        """Returns how to start the server at this port with this key, which must not be in the command."""

    @abstractmethod
    async def _identify(self) -> EngineDescription:
        """Compares what the server says it runs with the experiment.

        Raises:
            ConfigError: naming the first difference, or the flag that the server lacks.
            EngineError: it does not answer as such a server does.
        """

    @abstractmethod
    async def _empty_caches(self) -> None:
        """Makes the server forget earlier requests.

        Raises:
            EngineError: it does not.
        """

    @abstractmethod
    def _new_reply(self) -> R:
        """Returns what takes in the events of one request."""

    @abstractmethod
    def _body(self, request: GenerationRequest) -> bytes:
        """Returns a request as the server takes it."""

    @abstractmethod
    def _count(self, reply: R, num_prompt_tokens: int) -> tuple[AcceptanceCounters | None, Steps]:
        """Returns a complete request's counts, and its steps.

        Raises:
            EngineError: the server's counts contradict each other.
        """

    @abstractmethod
    def _totals(self, after: Metrics, before: Metrics) -> AcceptanceCounters | None:
        """Returns by how much the server's counters grew; None if it has none."""

    @abstractmethod
    def read_back(self, sampling: RequestSampling) -> Mapping[str, Any]:
        """Returns the sampling as the server takes it from a request's body."""

    async def start(self) -> None:
        """Starts the server, or connects to the one that runs, and finds out what it runs.

        Raises:
            ConfigError: the server runs something else than the experiment says, or lacks a flag.
            EngineUnavailableError: the engine is missing, or lacks something that the configuration needs.
            EngineError: it does not start, or does not answer.
        """
        await self._prepare()
        if self._url is None:
            self._key = secrets.token_hex(16)
            known().add([self._key])
            port = free_port()
            launch = self._launch(port, self._key)
            self._process = ServerProcess(launch.command, launch.environment)
            self._client = Client(f"http://{HOST}:{port}", self._key, reuses_connections=self.REUSES_CONNECTIONS)
        else:
            self._key = _key(self._api_key_env)
            self._client = Client(self._url.rstrip("/"), self._key, reuses_connections=self.REUSES_CONNECTIONS)
        try:
            if self._process is not None:
                await self._wait_until_ready(self._process)
            description = await self._identify()
            if not self._client.has_kernel_times:
                description = msgspec.structs.replace(description, notes=(*description.notes, PROCESS_TIMES))
            self._description = description
        except EngineError as error:
            await self.stop()
            if self._url is None:
                raise
            raise ConfigError(f"engine.url={self._url}: {error}") from None
        except BaseException:
            await self.stop()
            raise

    def attachment(self) -> Attachment:
        """Returns what another process needs to send requests to this server."""
        # Of the description, requests need the context's length alone. The rest may hold what cannot be sent.
        description = msgspec.structs.replace(self.describe(), arguments={}, resolved={}, differences=())
        state = {"_description": description, **{name: getattr(self, name) for name in self.SHARED}}
        return Attachment(url=self._client.url, api_key=self._key, state=state)

    def attach(self, attachment: Attachment) -> None:
        """Takes the place of `start()` where another process has started."""
        self._key = attachment.api_key
        self._client = Client(attachment.url, self._key, reuses_connections=self.REUSES_CONNECTIONS)
        vars(self).update(attachment.state)

    async def _wait_until_ready(self, process: ServerProcess) -> None:
        deadline_s = time.monotonic() + self._start_timeout_s
        while time.monotonic() < deadline_s:
            if (status := process.exit_status) is not None:
                raise EngineError(f"{self.TITLE} ended with status {status} while it started")
            try:
                if (await self._client.request("GET", "/health", timeout_s=5)).status == 200:
                    return
            except EngineError:
                pass  # not yet
            await asyncio.sleep(0.2)
        raise EngineError(f"{self.TITLE} was not ready within engine.start_timeout_s={self._start_timeout_s:g}")

    async def reset(self) -> None:
        """Empties the server's caches, where it lets itself be told to, and counts from here."""
        await self._empty_caches()
        self._before = await self._read_metrics(self._client)

    async def _read_metrics(self, client: Client) -> Metrics:
        answer = await client.request("GET", "/metrics")
        if answer.status != 200:
            raise EngineError(f"{client.url}/metrics: HTTP {answer.status}: {error_message(answer.body)}")
        return Metrics(answer.body.decode("utf-8", "replace"))

    def counters(self) -> AcceptanceCounters | None:
        """Returns the server's counts since the last reset; None for plain decoding, or where it has none.

        Called when no request is in flight. It waits for the server, so it has an event loop of its own.
        """
        if self._is_plain or self._before is None:
            return None
        with ThreadPoolExecutor(max_workers=1) as own:
            try:
                return own.submit(asyncio.run, self._settled_totals(self._before)).result()
            except EngineError:
                return None

    async def _settled_totals(self, before: Metrics) -> AcceptanceCounters | None:
        """Reads the counters until they stand still: they lag behind the answers by a moment."""
        client = Client(self._client.url, self._key)
        deadline_s, last = time.monotonic() + SETTLING_S, None
        try:
            while True:
                totals = self._totals(await self._read_metrics(client), before)
                if totals is None or totals == last or time.monotonic() > deadline_s:
                    return totals
                last = totals
                await asyncio.sleep(0.5)
        finally:
            await client.close()

    def describe(self) -> EngineDescription:
        """Returns what the server says it runs."""
        assert self._description is not None
        return self._description

    async def stop(self) -> None:
        """Ends the server, if the run started it."""
        await self._client.close()
        if self._process is not None:
            await asyncio.to_thread(self._process.stop)
            self._process = None

    async def stream(self, request: GenerationRequest) -> AsyncIterator[StepBatch]:
        """Yields the events as they come, and at the end all of them once more, with what each step accepted.

        Raises:
            EngineDiedError: the server is gone.
            EngineError: the request failed.
        """
        reply = self._new_reply()
        try:
            answer, connection = await self._client.send("POST", self.ROUTE, self._body(request), reply.take)
            try:
                while not answer.ended.done():
                    await asyncio.wait([answer.ended], timeout=PROGRESS_S)
                    if not answer.ended.done() and len(reply.log.sizes) > reply.log.num_passed_on:
                        yield reply.log.new()
                answer.ended.result()
                answer.check_status()
                reason = reply.check()
            finally:
                if not answer.ended.done():
                    answer.ended.cancel()
                self._client.release(connection)
            counters, steps = self._count(reply, len(request.prompt_token_ids))
        except EngineError as error:
            if len(reply.log.sizes) > reply.log.num_passed_on:
                yield reply.log.new()
            if await self._is_gone():
                raise EngineDiedError(f"the server at {self._client.url} is gone: {error}") from None
            raise
        if counters is not None:
            counters = msgspec.structs.replace(counters, num_decode_steps=steps.num_decode_steps)
        yield reply.log.whole(steps, reason, counters, reply.made, are_single=reply.has_single_steps)

    async def _probe(self) -> R:
        """Sends one request outside the measurement, to learn whether token ids and counts come back.

        Raises:
            EngineError: there is no complete reply in time.
        """
        sampling = RequestSampling(max_new_tokens=4)
        request = GenerationRequest(request_id="probe", prompt_token_ids=PROBE, sampling=sampling)
        reply = self._new_reply()
        answer, connection = await self._client.send("POST", self.ROUTE, self._body(request), reply.take)
        try:
            async with asyncio.timeout(self._start_timeout_s):
                await answer.ended
        except TimeoutError:
            raise EngineError(f"{self._client.url}: the probe request was not answered in time") from None
        finally:
            self._client.release(connection)
        answer.check_status()
        reply.check()
        return reply

    async def _is_gone(self) -> bool:
        """Whether the server can answer no other request. A server whose engine died answers /health with 503."""
        if self._process is not None and self._process.exit_status is not None:
            return True
        try:
            return (await self._client.request("GET", "/health", timeout_s=10)).status != 200
        except EngineError:
            return True


def _key(variable: str | None) -> str | None:
    """Returns the server's key, which from now on is redacted wherever it appears.

    Raises:
        ConfigError: the variable is not set.
    """
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        raise ConfigError(f"engine.api_key_env={variable}: there is no such environment variable; set it to the key")
    known().add([key])
    return key
