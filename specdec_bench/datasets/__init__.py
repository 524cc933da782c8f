"""Sources of prompts: one file a source. `load` takes the configured one and selects from it."""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from specdec_bench.config import plugins
from specdec_bench.config.schema.dataset import DatasetConfig, HFDataset, ShareGPTDataset
from specdec_bench.datasets.rows import HALF_A_PAIR, can_be_encoded
from specdec_bench.datasets.stratified import drawn
from specdec_bench.errors import DatasetError, abbreviated
from specdec_bench.records.request import Prompt
from specdec_bench.records.unused import Unused, describe

REPEATED_ID = "an id that an earlier row has too gets the row's number added"


ORIGIN = ("num_rows", "num_usable", "num_of_categories", "num_of_length", "num_turns_cut", "unused")
"""The manifest's fields on how prompts were taken from their source; see `Selection.origin`."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The prompts of one experiment, and how they were taken from their source."""

    prompts: list[Prompt]
    """In the order of the source."""
    origin: dict[str, Any]
    """For the manifest: `num_rows` of the source, `num_usable` (prompts that they make), `num_of_categories` and
    `num_of_length` (of those that the selection leaves; null where none was asked for), `num_turns_cut` (turns beyond
    `dataset.num_turns`, of the selected) and `unused`, as `specdec_bench.records.unused` says."""


def load(config: DatasetConfig, seed: int, count_tokens: Callable[[Prompt], int] | None = None) -> Selection:
    """Returns the prompts of one experiment.

    The source is read as a stream, twice if there is a selection. Prompts that are not selected are never held.

    Args:
        config: the dataset and what to select from it: first by category and length, then the subset.
        seed: draws the subset.
        count_tokens: the length of a prompt's first request; needed for `min_input_tokens`, `max_input_tokens`.

    Raises:
        DatasetError: the file is missing, a row is not what the format says, two prompts share an id, or
            there are none of what was asked for, or fewer.
    """
    unused = Unused()
    has_limits = config.min_input_tokens is not None or config.max_input_tokens is not None
    if config.categories is None and not has_limits and config.num_prompts is None:
        prompts = list(read(config, unused))
        return _selection(config, prompts, unused, num_usable=len(prompts))
    found: dict[str, int] = {}
    candidates: list[int] = []
    categories: list[str] = []
    num_of_categories = 0
    for index, prompt in enumerate(read(config, unused)):
        category = sys.intern(prompt.category)
        found[category] = found.get(category, 0) + 1
        if config.categories is not None and category not in config.categories:
            continue
        num_of_categories += 1
        if has_limits and not _fits(config, prompt, count_tokens):
            continue
        candidates.append(index)
        categories.append(category)
    for name in config.categories or ():
        if name not in found:
            names = abbreviated(list(found), most=20)
            raise DatasetError(f"dataset.categories: {name!r} is not a category of {config.name}, which has {names}")
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
    prompts = [prompt for index, prompt in enumerate(read(config, Unused())) if index in chosen]
    if len(prompts) < len(chosen):
        raise DatasetError(f"dataset={config.name}: {config.path}: changed while it was read; run again")
    return _selection(
        config,
        prompts,
        unused,
        num_usable=sum(found.values()),
        num_of_categories=num_of_categories if config.categories is not None else None,
        num_of_length=len(candidates) if has_limits else None,
    )


def _selection(
    config: DatasetConfig,
    prompts: list[Prompt],
    unused: Unused,
    *,
    num_usable: int,
    num_of_categories: int | None = None,
    num_of_length: int | None = None,
) -> Selection:
    """Returns the selected prompts, their turns cut to `num_turns`."""
    num_turns = sum(len(prompt.turns) for prompt in prompts)
    if config.num_turns is not None:
        prompts = [msgspec.structs.replace(prompt, turns=prompt.turns[: config.num_turns]) for prompt in prompts]
    return Selection(
        prompts=prompts,
        origin={
            "num_rows": num_usable + unused.num_rows,
            "num_usable": num_usable,
            "num_of_categories": num_of_categories,
            "num_of_length": num_of_length,
            "num_turns_cut": num_turns - sum(len(prompt.turns) for prompt in prompts),
            "unused": unused.as_tree(),
        },
    )


def read(config: DatasetConfig, unused: Unused) -> Iterator[Prompt]:
    """Yields all of the dataset's prompts, at least one, checked; `unused` gets what is not used of their rows.

    Raises:
        DatasetError: as `load`.
    """
    source = plugins.import_option("dataset", config.name)
    return checked(source.load(config, unused), config, unused)


def unreadable(config: DatasetConfig, error: OSError) -> DatasetError:
    """Returns the error to raise for a file that the system cannot read."""
    return DatasetError(f"dataset.path={config.path}: cannot be read: {error.strerror or error}; check the path")


def checked(numbered: Iterable[tuple[int, Prompt]], config: DatasetConfig, unused: Unused) -> Iterator[Prompt]:
    """Yields a source's prompts, at least one, with ids that are unique and texts that can be encoded.

    In data that others collected (ShareGPT's, the hub's), a row that cannot be encoded is left out by name. A ShareGPT
    id that repeats an earlier row's gets the row's number added, because no other column can be chosen there.

    Raises:
        DatasetError: two share an id, a text cannot be encoded, or there are no prompts.
    """
    where = config.path or f"dataset={config.name}"
    rows: dict[str, int] = {}
    for row, prompt in numbered:
        labels = (prompt.labels or {}).values()
        if not can_be_encoded(prompt.prompt_id, prompt.category, *prompt.turns, prompt.system or "", *labels):
            if not isinstance(config, ShareGPTDataset | HFDataset):
                raise DatasetError(f"{where}:{row}: holds half a surrogate pair, which no tokenizer takes; repair it")
            unused.add_row(HALF_A_PAIR, row)
            continue
        prompt_id = prompt.prompt_id
        if prompt_id in rows:
            both = f"rows {rows[prompt_id]} and {row}"
            if not isinstance(config, ShareGPTDataset):
                fix = "; or leave dataset.id_column out" if isinstance(config, HFDataset) else ""
                raise DatasetError(f"{where}: the id {prompt_id!r} appears twice, in {both}; ids must be unique{fix}")
            unused.add_part(REPEATED_ID, row, f"{prompt_id!r} of {both}")
            prompt_id = f"{prompt_id}#{row}"
            while prompt_id in rows:
                prompt_id += "#"
            prompt = msgspec.structs.replace(prompt, prompt_id=prompt_id)
        rows[prompt_id] = row
        yield prompt
    if not rows:
        told = "".join(f" ({line})" for line in describe(unused.as_tree(), ["rows"]))
        raise DatasetError(f"dataset={config.name}: {where}: no prompts in it{told}; give a file with at least one")


def _fits(config: DatasetConfig, prompt: Prompt, count_tokens: Callable[[Prompt], int] | None) -> bool:
    assert count_tokens is not None
    length = count_tokens(prompt)
    return (config.min_input_tokens or 0) <= length and (
        config.max_input_tokens is None or length <= config.max_input_tokens
    )


def _limits(config: DatasetConfig) -> str:
    least, most = config.min_input_tokens, config.max_input_tokens
    return f"at least {least}" if most is None else f"at most {most}" if least is None else f"{least} to {most}"
