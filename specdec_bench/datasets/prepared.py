"""A file that `specdec-bench prepare` wrote, checked against what it says of itself."""

from collections.abc import Iterator

from specdec_bench.config.schema import DatasetConfig
from specdec_bench.datasets.prepare import read_prepared
from specdec_bench.datasets.rows import required_path
from specdec_bench.records import Prompt


def load(config: DatasetConfig) -> Iterator[Prompt]:
    """Yields the prompts of `config.path`.

    Raises:
        DatasetError: it is no prepared file, or was changed since.
    """
    return read_prepared(required_path(config))
