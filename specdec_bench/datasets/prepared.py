"""A file that `specdec-bench prepare` wrote, checked against its own metadata."""

from collections.abc import Iterator

from specdec_bench.config.schema.dataset import DatasetConfig
from specdec_bench.datasets.prepare import read_prepared
from specdec_bench.datasets.rows import required_path
from specdec_bench.records.request import Prompt
from specdec_bench.records.unused import Unused


def load(config: DatasetConfig, unused: Unused) -> Iterator[tuple[int, Prompt]]:
    """Yields row numbers and prompts of `config.path`; notes the parts of the source that prepare did not use.

    Raises:
        DatasetError: the file was not written by `prepare`, or was changed since.
    """
    return read_prepared(required_path(config), unused)
