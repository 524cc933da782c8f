"""What a run is called in tables and plots."""

from collections.abc import Mapping

from specdec_bench.records.json_types import Json
from specdec_bench.records.manifest import Manifest, label_of_load
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
    """None where nothing is drafted."""
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
    return _text(config, "spec", "name"), _integer(_option(config, "spec", "draft_length"))


def run_labels(manifest: Manifest) -> RunLabels:
    """Returns the labels of a run."""
    config, load = manifest.config, label_of_load(manifest)
    spec, draft_length = method_of(config)
    return RunLabels(
        engine=_text(config, "engine", "name"),
        model=_text(config, "model", "name"),
        dataset=_text(config, "dataset", "name"),
        spec=spec,
        draft_length=draft_length,
        concurrency=load.max_in_flight,
        load_axis=load.axis,
        load_value=load.value,
        temperature=_number(_option(config, "sampling", "temperature")),
        seed=_integer(config.get("seed")),
    )


def _option(config: Mapping[str, Json], group: str, name: str) -> Json:
    options = config.get(group)
    return options.get(name) if isinstance(options, dict) else None


def _text(config: Mapping[str, Json], group: str, name: str) -> str | None:
    value = _option(config, group, name)
    return value if isinstance(value, str) else None


def _integer(value: Json) -> int | None:
    return value if isinstance(value, int) else None


def _number(value: Json) -> float | None:
    return value if isinstance(value, int | float) else None
