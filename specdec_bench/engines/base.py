"""The Engine protocol."""

from collections.abc import AsyncIterator, Mapping
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
            EngineUnavailableError: the package is missing or lacks what was asked for.
            EngineError: anything else.
        """

    def read_back(self, sampling: RequestSampling) -> Mapping[str, Any]:
        """Returns what the engine's own object makes of a request's sampling, by the names of RequestSampling's fields.

        A greedy choice has temperature 0, whatever the engine calls it. Loads nothing but the engine's package, so
        that it can be asked before `start()`.

        Raises:
            ConfigError: the engine refuses a value.
            EngineUnavailableError: the package is missing.
        """

    def stream(self, request: GenerationRequest) -> AsyncIterator[Chunk | StepBatch]:
        """Generates for one request. Yields chunks with at least one new token id each, in order.

        An adapter that notes every step and its time by itself may yield many of them as one StepBatch.

        The last chunk alone carries `finish_reason` and, where the engine has them, `counters` and `made`. An adapter
        whose engine tells the step sets `num_proposed` and `num_accepted` on each chunk (0 and 0 on the
        prefill's). Proposals after a proposed stop token, and beyond the remaining tokens - 1, are not
        counted where the engine lets us see them. Closing the iterator early cancels the request.

        Raises:
            EngineError: the request failed; others may go on.
        """

    async def reset(self) -> None:
        """Forgets everything that earlier requests left: caches, statistics."""

    def counters(self) -> AcceptanceCounters | None:
        """Returns the engine's counts since the last reset, or None where it keeps none."""

    def describe(self) -> EngineDescription:
        """Returns what the engine runs with. Valid after `start()`."""

    async def stop(self) -> None:
        """Ends the engine and frees its memory."""


def create(config: ExperimentConfig) -> Engine:
    """Returns the chosen engine's adapter, not yet started. Imports that adapter's module alone."""
    engine: Engine = plugins.import_option("engine", config.engine.name).create(config)
    return engine
