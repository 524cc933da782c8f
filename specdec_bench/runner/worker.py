"""The child process that holds an engine and measures: `python -m specdec_bench.runner.worker FD`.

It takes cells from the parent over one inherited connection, keeps its engine between cells that share it,
and writes each finished request itself, so that nothing is lost when either process dies.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

import msgspec

from specdec_bench.archive import provenance
from specdec_bench.archive.layout import RunDirectory
from specdec_bench.archive.redact import adopt
from specdec_bench.archive.writer import RequestWriter
from specdec_bench.config import plugins
from specdec_bench.engines import readback
from specdec_bench.engines.base import Engine, create
from specdec_bench.errors import ConfigError, EngineError, SpecDecBenchError
from specdec_bench.load.clients import num_clients
from specdec_bench.records.builtin import to_builtin
from specdec_bench.records.checkpoint import Checkpoint
from specdec_bench.records.manifest import Difference, EngineDescription
from specdec_bench.runner import preflight, signals
from specdec_bench.runner.clients import Clients
from specdec_bench.runner.energy import EnergyMeter
from specdec_bench.runner.measure import Measurement, request_sampling
from specdec_bench.runner.messages import Done, Failed, Interrupt, Progress, RunCell, Started
from specdec_bench.runner.replies import responses

logger = logging.getLogger(__name__)

PROGRESS_PERIOD_S = 0.2


class Worker:
    """Serves cells one after another on one event loop, which an engine may be bound to."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._engine: Engine | None = None
        self._engine_start_s = 0.0
        self._measuring: asyncio.Task[None] | None = None

    async def serve(self) -> None:
        """Runs cells until the parent says to stop."""
        inbox: asyncio.Queue[object] = asyncio.Queue()
        self._loop = loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, args=(loop, inbox.put_nowait), daemon=True).start()
        while isinstance(message := await inbox.get(), RunCell):
            try:
                await self._run(message)
            except SpecDecBenchError as error:
                if isinstance(error, EngineError) and error.__cause__ is not None:
                    traceback.print_exception(error.__cause__)  # into the log: the user gets its last line alone
                self._send(Failed.of(error))
            except Exception as error:  # noqa: BLE001  (the boundary of the process: the parent reports it)
                traceback.print_exc()
                self._send(Failed.of(error))
            finally:
                self._measuring = None
        if self._engine is not None:
            await self._engine.stop()

    def _read(self, loop: asyncio.AbstractEventLoop, deliver: Callable[[object], None]) -> None:
        """Takes the parent's messages in a thread, because starting an engine may block the loop."""
        while True:
            try:
                message = self._connection.recv()
            except (EOFError, OSError):  # the parent is gone: leave nothing running
                os.killpg(0, signal.SIGKILL)
            if isinstance(message, Interrupt):
                if not self._stop_measuring():
                    os.killpg(0, signal.SIGKILL)  # nothing is measured yet, or all is sent: nothing can be lost
            else:
                loop.call_soon_threadsafe(deliver, message)

    def _stop_measuring(self) -> bool:
        """Cancels the measurement from another thread; returns False if there is none."""
        measuring = self._measuring
        if measuring is not None:
            self._loop.call_soon_threadsafe(measuring.cancel)
        return measuring is not None

    def _send(self, message: object) -> None:
        with self._sending:
            self._connection.send(message)

    async def _run(self, cell: RunCell) -> None:
        config = cell.config
        adopt(cell.secrets)
        prepared = preflight.prepare(config, cell.prompts)
        prompter = prepared.prompter
        checkpoints = preflight.fingerprints(config, prepared.facts, of_hub=False)
        _check_fingerprints(cell.expected_checkpoints, checkpoints)
        reused = self._engine is not None
        engine = self._engine or create(config)
        sampling = request_sampling(config, prompter.stop_token_ids)
        untaken = readback.check_sampling(config.engine.name, sampling, engine.read_back(sampling))
        if self._engine is None:
            began = time.perf_counter()
            await engine.start()
            self._engine, self._engine_start_s = engine, time.perf_counter() - began
        else:
            await engine.reset()
        description = _describe(engine, untaken)
        readback.refuse_another_method(description)
        checkpoints |= preflight.fingerprints(config, prepared.facts, of_hub=True)
        _check_fingerprints(cell.expected_checkpoints, checkpoints)
        if "target" in checkpoints:
            checkpoints["target"] = msgspec.structs.replace(
                checkpoints["target"], end_token_ids=tuple(prompter.stop_token_ids)
            )
        run = RunDirectory.open(cell.run_dir)
        interrupted = False
        num_turns = sum(len(prompt.turns) for prompt in cell.prompts) / len(cell.prompts)
        number = num_clients(config, num_turns)
        with (
            RequestWriter(run.requests_path, on_error=self._stop_measuring) as writer,
            Clients(number, writer) if number > 1 else contextlib.nullcontext() as clients,
        ):
            meter = EnergyMeter(description.num_accelerators, is_elsewhere=description.is_elsewhere)
            measurement = Measurement(
                config, cell.prompts, engine, prompter, writer, prepared.first_token_ids, around_window=meter
            )
            self._send(
                Started(
                    description=description,
                    environment=provenance.environment(),
                    checkpoints=checkpoints,
                    clock=provenance.clock(),
                    engine_start_s=self._engine_start_s,
                    engine_reused=reused,
                    num_clients=number,
                    dropped=measurement.dropped,
                )
            )
            with self._progress(measurement):
                await asyncio.to_thread(meter.measure_idle)
                self._measuring = asyncio.create_task(measurement.run(clients))
                try:
                    await self._measuring
                except asyncio.CancelledError:
                    interrupted = True
        totals = engine.counters()
        with self._progress(measurement):  # the parent takes silence for a stall
            run.write_responses(responses(run, cell.prompts, prompter))
        self._send(
            Done(
                interrupted=interrupted,
                counts=measurement.live,
                engine_totals=totals,
                client_lateness=measurement.lateness.result() if clients is None else clients.lateness,
                energy=meter.result(),
            )
        )

    @contextlib.contextmanager
    def _progress(self, measurement: Measurement) -> Iterator[None]:
        """Reports the live counts from a thread of its own while the block runs."""
        over = threading.Event()

        def report() -> None:
            while not over.wait(PROGRESS_PERIOD_S):
                self._send(
                    Progress(
                        phase=measurement.phase,
                        counts=measurement.live,
                        total=measurement.num_requests,
                        elapsed_s=time.perf_counter() - measurement.phase_began_s,
                    )
                )

        thread = threading.Thread(target=report, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _describe(engine: Engine, untaken: tuple[Difference, ...]) -> EngineDescription:
    """Returns the engine's description, with its objects as builtins: other processes could not unpickle a dtype.

    Args:
        engine: started.
        untaken: the parts of a request's sampling that it does not take.
    """
    description = engine.describe()
    differences = (*description.differences, *untaken)
    for difference in differences:
        logger.warning("%s: %s was asked for, the engine has %s", difference.name, difference.asked, difference.got)
    return msgspec.structs.replace(
        description,
        arguments=to_builtin(description.arguments),
        resolved=to_builtin(description.resolved),
        differences=tuple(msgspec.structs.replace(one, got=to_builtin(one.got)) for one in differences),
    )


def _check_fingerprints(expected: dict[str, Checkpoint] | None, found: dict[str, Checkpoint]) -> None:
    """Refuses weights, or a class of the user's, that are not the archived ones.

    Raises:
        ConfigError: naming the checkpoint and both fingerprints.
    """
    for role, checkpoint in found.items():
        archived = (expected or {}).get(role)
        if archived is not None and archived.fingerprint != checkpoint.fingerprint:
            raise ConfigError(
                f"{role} {checkpoint.path}: its fingerprint {checkpoint.fingerprint[:12]} is not the archived "
                f"{archived.fingerprint[:12]}; the run can be replayed only with the same files"
            )


def main() -> None:
    """Entry point of the child process; its argument is the connection's file descriptor."""
    signals.leave_to_parent()
    plugins.load()
    logging.basicConfig(level=logging.INFO, format="[%(asctime)s][%(name)s][%(levelname)s] %(message)s")
    asyncio.run(Worker(Connection(int(sys.argv[1]))).serve())


if __name__ == "__main__":
    main()
