"""A package of its own that adds a dataset, an engine, a load and a metric. Nothing heavy is imported here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from specdec_bench.config.plugins import ExtraMetric, Plugin
from specdec_bench.config.schema.dataset import DatasetConfig
from specdec_bench.config.schema.engine import EngineConfig
from specdec_bench.config.schema.load import LoadConfig
from specdec_bench.config.schema.ranges import VOCABULARY
from specdec_bench.config.support import EngineSupport


@dataclass(kw_only=True)
class ToyDataset(DatasetConfig):
    """Greetings to as many people as one likes."""

    name: str = "toy"
    num_people: int = 3


@dataclass(kw_only=True)
class ToyEngine(EngineConfig):
    """Counts: 1, 2, 3, ..."""

    name: str = "toy"
    vocab_size: Annotated[int, VOCABULARY] = 256


@dataclass(kw_only=True)
class ToyLoad(LoadConfig):
    """One conversation after another, with a rest after each."""

    AXIS: ClassVar[str] = "rest_s"
    TITLE: ClassVar[str] = "seconds of rest"
    UNIT: ClassVar[str] = "s of rest"

    name: str = "toy"
    rest_s: float = 0.0

    @property
    def max_in_flight(self) -> int:
        return 1


def most_tokens(records):
    """Returns the length of the longest reply."""
    return max((len(record.output_token_ids) for record in records), default=None)


PLUGIN = Plugin(
    options={"dataset": {"toy": ToyDataset}, "engine": {"toy": ToyEngine}, "load": {"toy": ToyLoad}},
    modules={"dataset": {"toy": "toy_bench.dataset"}, "load": {"toy": "toy_bench.load"}},
    engines={
        "toy": EngineSupport(adapter="toy_bench.engine", methods={"none": {}}, has_checkpoints=False, max_concurrency=1)
    },
    metrics={"most_tokens": ExtraMetric(definition="max over requests of output tokens", compute=most_tokens)},
    conf=Path(__file__).parent / "conf",
)
