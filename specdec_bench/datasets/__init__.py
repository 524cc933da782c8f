"""Sources of prompts: one file a source. `load` takes the configured one and draws the subset."""

import importlib

import msgspec

from specdec_bench.config.schema import DatasetConfig
from specdec_bench.datasets.subset import stratified
from specdec_bench.errors import DatasetError
from specdec_bench.records import Prompt


def load(config: DatasetConfig, seed: int) -> list[Prompt]:
    """Returns the prompts of one experiment, in the order of the source.

    Raises:
        DatasetError: the file is missing, a line is not what the format says, two prompts share an id, or
            there are fewer prompts than asked for.
    """
    source = importlib.import_module(f"specdec_bench.datasets.{config.name}")
    prompts: list[Prompt] = source.load(config)
    if not prompts:
        raise DatasetError(f"dataset={config.name}: {config.path}: no prompts in it; give a file with at least one")
    seen: set[str] = set()
    for prompt in prompts:
        if prompt.prompt_id in seen:
            raise DatasetError(f"dataset={config.name}: the id {prompt.prompt_id!r} stands twice; ids must be unique")
        seen.add(prompt.prompt_id)
    if config.num_turns is not None:
        prompts = [msgspec.structs.replace(prompt, turns=prompt.turns[: config.num_turns]) for prompt in prompts]
    if config.num_prompts is None:
        return prompts
    if config.num_prompts > len(prompts):
        raise DatasetError(
            f"dataset.num_prompts={config.num_prompts}: {config.name} has {len(prompts)}; "
            "ask for at most that many, or raise load.repeats"
        )
    return stratified(prompts, config.num_prompts, seed)
