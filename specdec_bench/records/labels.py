"""What a run is called in tables and plots."""

from collections.abc import Mapping

from specdec_bench.records.json_types import Json
from specdec_bench.records.manifest import Manifest, label_of_load
from specdec_bench.records.options import integer_option, number_option, option, text_option
from specdec_bench.records.request import Record

NO_PART_OF_RUN = ("expected.", "slo.", "cost.")
"""Prefixes of an experiment's fields that change nothing in how a run runs."""


class RunLabels(Record, frozen=True, kw_only=True):
    """The choices by which tables tell runs apart. None where an archived experiment does not say."""

    engine: str | None
    model: str | None
    dataset: str | None
    spec: str | None
    draft_length: int | None
    """None where nothing is drafted; the largest where it followed the batch size."""
    draft_lengths: str | None
    """The largest and the smallest, as in 5..0, where it followed the batch size; None where it did not."""
    concurrency: int | None
    """Requests in flight all the time; None under an open load."""
    load_axis: str
    """The field that says how much load there is, and its value."""
    load_value: float | None
    temperature: float | None
    seed: int | None
    """The experiment's."""


def method_of(config: Mapping[str, Json]) -> tuple[str | None, int | None]:
    """Returns the method of an archived experiment, and its draft length."""
    return text_option(config, "spec", "name"), integer_option(config, "spec", "draft_length")


def draft_lengths_of(config: Mapping[str, Json]) -> list[int] | None:
    """Returns the draft lengths of an archived experiment by rising batch size; None if it has but one."""
    rows = option(config, "spec", "draft_length_by_batch_size")
    if not isinstance(rows, list):
        return None
    return [row[-1] for row in rows if isinstance(row, list) and row and isinstance(row[-1], int)] or None


def run_labels(manifest: Manifest) -> RunLabels:
    """Returns the labels of a run."""
    config, load = manifest.config, label_of_load(manifest)
    spec, draft_length = method_of(config)
    seed, lengths = config.get("seed"), draft_lengths_of(config)
    return RunLabels(
        engine=text_option(config, "engine", "name"),
        model=text_option(config, "model", "name"),
        dataset=text_option(config, "dataset", "name"),
        spec=spec,
        draft_length=draft_length,
        draft_lengths=None if lengths is None else f"{max(lengths)}..{min(lengths)}",
        concurrency=load.max_in_flight,
        load_axis=load.axis,
        load_value=load.value,
        temperature=number_option(config, "sampling", "temperature"),
        seed=seed if isinstance(seed, int) else None,
    )
