"""Runs a cell in the tests' own process."""

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from specdec_bench.archive import RequestWriter, codec
from specdec_bench.checkpoints.prompter import BytePrompter
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.engines.base import Engine, create
from specdec_bench.records.request import Prompt, RequestRecord
from specdec_bench.runner.measure import Measurement
from tests.helpers.measured_cells import Measure


@pytest.fixture(autouse=True)
def _frozen() -> None:
    """A run begins with a collection of the whole heap, and thaws it in the end."""
    gc.freeze()


@pytest.fixture
def measure(tmp_path: Path) -> Measure:
    """Returns a function that runs a cell and returns its records in the order in which they were archived."""

    def run(
        config: ExperimentConfig,
        prompts: list[Prompt],
        engine: Engine | None = None,
        watch: Callable[[Measurement], None] = lambda _: None,
    ) -> list[RequestRecord]:
        path = tmp_path / "requests.jsonl"
        path.unlink(missing_ok=True)
        with RequestWriter(path) as writer:
            measurement = Measurement(config, prompts, engine or create(config), BytePrompter(256), writer)
            asyncio.run(measurement.run())
            watch(measurement)
        decoder = msgspec.json.Decoder(RequestRecord)
        return [codec.decode(line, decoder) for line in path.read_bytes().splitlines()]

    return run
