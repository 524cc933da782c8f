"""What a run is called in tables and plots."""

from collections.abc import Mapping

from specdec_bench.records.json_types import Json
from specdec_bench.records.request import Record


class RunLabels(Record, frozen=True, kw_only=True):
    """The choices by which tables tell runs apart. None where an archived experiment does not say."""

    engine: str | None
    model: str | None
    dataset: str | None
    spec: str | None
    draft_length: int | None
    """None where nothing is drafted."""
    concurrency: int | None
    temperature: float | None
    seed: int | None
    """The experiment's."""


def run_labels(config: Mapping[str, Json]) -> RunLabels:
    """Returns the labels of an archived experiment."""
    return RunLabels(
        engine=_text(config, "engine", "name"),
        model=_text(config, "model", "name"),
        dataset=_text(config, "dataset", "name"),
        spec=_text(config, "spec", "name"),
        draft_length=_integer(_option(config, "spec", "draft_length")),
        concurrency=_integer(_option(config, "load", "concurrency")),
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
