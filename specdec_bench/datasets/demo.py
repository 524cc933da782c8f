"""The project's own prompts, in the jsonl format; they ship with the package."""

from collections.abc import Iterator

from specdec_bench.config.checkpoints import ASSETS
from specdec_bench.config.schema.dataset import DatasetConfig, JsonlDataset
from specdec_bench.datasets import jsonl
from specdec_bench.errors import DatasetError
from specdec_bench.records.request import Prompt
from specdec_bench.records.unused import Unused


def load(config: DatasetConfig, unused: Unused) -> Iterator[tuple[int, Prompt]]:
    """Yields the demo prompts.

    Raises:
        DatasetError: a path was given.
    """
    if config.path is not None:
        raise DatasetError(
            f"dataset.path={config.path}: dataset=demo ships with the project; use dataset=jsonl for a file"
        )
    return jsonl.load(JsonlDataset(path=str(ASSETS / "demo.jsonl")), unused)
