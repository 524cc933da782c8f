"""Sources of prompts: one file a source. `load` takes the configured one and selects from it."""

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator

import msgspec

from specdec_bench.config.schema import DatasetConfig
from specdec_bench.datasets.subset import drawn
from specdec_bench.errors import DatasetError
from specdec_bench.records import Prompt


def load(config: DatasetConfig, seed: int, count_tokens: Callable[[Prompt], int] | None = None) -> list[Prompt]:
    """Returns the prompts of one experiment, in the order of the source.

    The source is read as a stream, and where there is a selection, twice: what is not selected is never held.

    Args:
        config: the dataset and what to select from it: first by category and length, then the subset.
        seed: draws the subset.
        count_tokens: the length of a prompt's first request; needed for `min_input_tokens`, `max_input_tokens`.

    Raises:
        DatasetError: the file is missing, a row is not what the format says, two prompts share an id, or
            there are none of what was asked for, or fewer.
    """
    has_limits = config.min_input_tokens is not None or config.max_input_tokens is not None
    if config.categories is None and not has_limits and config.num_prompts is None:
        return list(read(config))
    found: dict[str, int] = {}
    candidates: list[int] = []
    categories: list[str] = []
    for index, prompt in enumerate(read(config)):
        category = sys.intern(prompt.category)
        found[category] = found.get(category, 0) + 1
        if config.categories is not None and category not in config.categories:
            continue
        if has_limits and not _fits(config, prompt, count_tokens):
            continue
        candidates.append(index)
        categories.append(category)
    for name in config.categories or ():
        if name not in found:
            raise DatasetError(f"dataset.categories: {name!r} is none of {config.name}'s, which are {', '.join(found)}")
    if not candidates:
        raise DatasetError(
            f"dataset={config.name}: none of its prompts has {_limits(config)} input tokens; widen the limits"
        )
    chosen = set(candidates)
    if config.num_prompts is not None:
        if config.num_prompts > len(candidates):
            selected = " such prompts" if len(candidates) < sum(found.values()) else ""
            raise DatasetError(
                f"dataset.num_prompts={config.num_prompts}: {config.name} has {len(candidates)}{selected}; "
                "ask for at most that many, or raise load.repeats"
            )
        chosen = {candidates[position] for position in drawn(categories, config.num_prompts, seed)}
    return [prompt for index, prompt in enumerate(read(config)) if index in chosen]


def read(config: DatasetConfig) -> Iterator[Prompt]:
    """Yields all of the dataset's prompts, at least one, their ids checked and `num_turns` applied.

    Raises:
        DatasetError: as `load`.
    """
    source = importlib.import_module(f"specdec_bench.datasets.{config.name}")
    return checked(source.load(config), config)


def unreadable(config: DatasetConfig, error: OSError) -> DatasetError:
    """Returns what to raise of a file that the system does not let be read."""
    return DatasetError(f"dataset.path={config.path}: cannot be read: {error.strerror or error}; check the path")


def checked(prompts: Iterable[Prompt], config: DatasetConfig) -> Iterator[Prompt]:
    """Yields a source's prompts, at least one, their ids checked and `num_turns` applied.

    Raises:
        DatasetError: two share an id, or there are none.
    """
    seen: set[str] = set()
    for prompt in prompts:
        if prompt.prompt_id in seen:
            raise DatasetError(f"dataset={config.name}: the id {prompt.prompt_id!r} stands twice; ids must be unique")
        seen.add(prompt.prompt_id)
        if config.num_turns is not None:
            prompt = msgspec.structs.replace(prompt, turns=prompt.turns[: config.num_turns])
        yield prompt
    if not seen:
        raise DatasetError(f"dataset={config.name}: {config.path}: no prompts in it; give a file with at least one")


def _fits(config: DatasetConfig, prompt: Prompt, count_tokens: Callable[[Prompt], int] | None) -> bool:
    assert count_tokens is not None
    length = count_tokens(prompt)
    return (config.min_input_tokens or 0) <= length and (
        config.max_input_tokens is None or length <= config.max_input_tokens
    )


def _limits(config: DatasetConfig) -> str:
    least, most = config.min_input_tokens, config.max_input_tokens
    return f"at least {least}" if most is None else f"at most {most}" if least is None else f"{least} to {most}"
