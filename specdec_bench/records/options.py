"""Options of an archived experiment of any release. One may be missing, or be of another type than today."""

from collections.abc import Mapping

from specdec_bench.records.json_types import Json


def options(config: Mapping[str, Json], group: str) -> dict[str, Json]:
    """Returns a group of options; empty if the experiment has none."""
    found = config.get(group)
    return found if isinstance(found, dict) else {}


def option(config: Mapping[str, Json], group: str, name: str) -> Json:
    """Returns the value of `group.name`; None if the experiment does not say."""
    return options(config, group).get(name)


def text_option(config: Mapping[str, Json], group: str, name: str) -> str | None:
    """Returns an option that is text, and None for anything else."""
    value = option(config, group, name)
    return value if isinstance(value, str) else None


def integer_option(config: Mapping[str, Json], group: str, name: str) -> int | None:
    """Returns an option that is an integer, and None for anything else."""
    value = option(config, group, name)
    return value if isinstance(value, int) else None


def number_option(config: Mapping[str, Json], group: str, name: str) -> float | None:
    """Returns an option that is a number, and None for anything else."""
    value = option(config, group, name)
    return value if isinstance(value, int | float) else None
