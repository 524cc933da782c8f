"""How a sweep's table names its methods and the conditions that they run under."""

from collections.abc import Mapping, Sequence


def of_method(varying_fields: Sequence[str]) -> list[str]:
    """Returns the fields that belong to the method."""
    return [name for name in varying_fields if name.startswith("spec.")]


def conditions(varying_fields: Sequence[str]) -> list[str]:
    """Returns the fields that describe the conditions that methods run under."""
    return [name for name in varying_fields if not name.startswith("spec.")]


def label(row: Mapping[str, object], varying_fields: Sequence[str]) -> str:
    """Returns the name of a row's method, with its draft length and the other fields that distinguish it."""
    lengths = row.get("draft_lengths") or row["draft_length"]
    length = [] if lengths is None else [f"K={lengths}"]
    fields = [name for name in of_method(varying_fields) if row.get(name) is not None]
    return " ".join([str(row["spec"]), *length, *(f"{name.removeprefix('spec.')}={row[name]}" for name in fields)])


def method_name(row: Mapping[str, object], varying_fields: Sequence[str]) -> str:
    """Returns `label` without the draft length."""
    return label({**row, "draft_length": None, "draft_lengths": None}, varying_fields)
