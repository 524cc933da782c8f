"""Makes a checked cell, with its prompts, from Hydra's composed tree."""

from collections.abc import Sequence
from logging import LogRecord
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from specdec_bench.archive.hydra_files import learn_composed
from specdec_bench.config import compose
from specdec_bench.config.support import ENGINES
from specdec_bench.runner import held_log

if TYPE_CHECKING:
    from specdec_bench.datasets import Selection
    from specdec_bench.runner.cell import Cell


def compose_cell(
    composed: DictConfig,
    overrides: Sequence[str],
    largest_concurrency: int = 1,
    *,
    command: Sequence[str],
    prompts: "dict[str, tuple[Selection, list[LogRecord]]] | None" = None,
) -> "Cell":
    """Returns the checked cell of a composed experiment.

    Args:
        composed: Hydra's tree, without Hydra's own settings.
        overrides: as they were given.
        largest_concurrency: of the sweep's cells.
        command: the command line.
        prompts: the prompts read so far and their log records, which the cells of a sweep share.

    Raises:
        SpecDecBenchError: it cannot be run.
    """
    learn_composed(composed)
    with held_log.hold() as of_cell:
        config = compose.experiment(composed, largest_concurrency)
        # This imports datasets, checkpoints and engines, which refusing a configuration does not need.
        from specdec_bench.runner.cell import Cell, check, load_prompts

        check(config)
    # Selection by tokens uses the engine's tokenizer: the model's, or one that needs no model.
    key = repr((config.dataset, config.seed, config.model, ENGINES[config.engine.name].has_checkpoints))
    prompts = {} if prompts is None else prompts
    if key not in prompts:
        with held_log.hold() as of_prompts:
            prompts[key] = load_prompts(config), of_prompts
    selection, of_prompts = prompts[key]
    compose.limit_batch(config, composed, len(selection.prompts))
    return Cell(
        config=config,
        prompts=selection.prompts,
        command=command,
        overrides=overrides,
        origin=selection.origin,
        held_log=[*of_cell, *of_prompts],
    )
