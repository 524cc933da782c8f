"""The Engine protocol."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from specdec_bench.config import plugins
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.records.manifest import EngineDescription
from specdec_bench.records.request import AcceptanceCounters, Chunk, GenerationRequest, RequestSampling, StepBatch


class Engine(Protocol):
    """One live engine: a target with its draft. All methods are called on one event loop.

    An adapter's module offers `create(config) -> Engine`, imports its engine's package inside `start()`
    and `read_back()`, and is otherwise free.
    """

    async def start(self) -> None:
        """Loads everything.

        Raises:
            ConfigError: the checkpoint and the configuration do not go together (before weights load).
            EngineUnavailableError: the package is missing, or lacks something the configuration needs.
            EngineError: anything else.
        """

    def read_back(self, sampling: RequestSampling) -> Mapping[str, Any]:
        """Returns a request's sampling as the engine's own object holds it, by the names of RequestSampling's fields.

        Greedy decoding has temperature 0, whatever the engine calls it. Loads only the engine's package, so it can be
        called before `start()`.

        Raises:
            ConfigError: the engine refuses a value.
            EngineUnavailableError: the package is missing.
        """

    def stream(self, request: GenerationRequest) -> AsyncIterator[Chunk | StepBatch]:
        """Generates for one request. Yields chunks with at least one new token id each, in order.

        An adapter that records every step and its time itself may yield many steps as one StepBatch.

        Only the last chunk carries `finish_reason` and, if the engine has them, `counters` and `made`. An adapter
        whose engine reports each step sets `num_proposed` and `num_accepted` on each chunk (0 and 0 on the
        prefill's). If the engine shows them, proposals after a proposed stop token, and beyond the remaining
        tokens - 1, are not counted. Closing the iterator early cancels the request.

        Raises:
            EngineError: the request failed; others may go on.
        """

    async def reset(self) -> None:
        """Clears everything that earlier requests left: caches, statistics."""

    def counters(self) -> AcceptanceCounters | None:
        """Returns the engine's counts since the last reset, or None if it keeps none."""

    def describe(self) -> EngineDescription:
        """Returns the settings that the engine runs with. Valid after `start()`."""

    async def stop(self) -> None:
        """Ends the engine and frees its memory."""


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """What another process needs to send requests to a live engine."""

    url: str
    api_key: str | None = field(repr=False)
    state: Mapping[str, object]
    """The adapter's own."""


class SharedEngine(Engine, Protocol):
    """An engine that answers over HTTP, so that several processes can send it requests."""

    def attachment(self) -> Attachment:
        """Returns what `attach` takes. Valid from `start()` or the last `reset()` until the next."""

    def attach(self, attachment: Attachment) -> None:
        """Takes the place of `start()` in another process: `stream()`, `describe()` and `stop()` can be called then.

        Stopping it leaves the engine alone.
        """


def create(config: ExperimentConfig) -> Engine:
    """Returns the chosen engine's adapter, not yet started. Imports only that adapter's module."""
    engine: Engine = plugins.import_option("engine", config.engine.name).create(config)
    return engine
