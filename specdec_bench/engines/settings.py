"""An engine's own configuration object as plain data, for the manifest."""

import dataclasses
import enum
from typing import Any


def settings_of(config: Any, *, without: str | None = None) -> dict[str, Any]:
    """Returns the fields of a dataclass or pydantic model, including its sections.

    Leaves out anything that is neither a setting nor a section of the same kind. Enum members and torch dtypes become
    their names.

    Args:
        config: the engine's object.
        without: leave out sections whose names begin with this.
    """
    names_of = _dataclass_fields if dataclasses.is_dataclass(config) else _model_fields
    found: dict[str, Any] = {}
    for name in names_of(config) or ():
        value = getattr(config, name, None)
        if isinstance(value, enum.Enum):
            value = value.name
        elif type(value).__module__ == "torch":
            value = str(value).removeprefix("torch.")
        if names_of(value) is not None:
            if without is None or not name.startswith(without):
                found[name] = settings_of(value, without=without)
        elif isinstance(value, bool | int | float | str | list | tuple | dict) or value is None:
            found[name] = value
    return found


def _dataclass_fields(value: Any) -> list[str] | None:
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return None
    return [field.name for field in dataclasses.fields(value)]


def _model_fields(value: Any) -> list[str] | None:
    fields = getattr(type(value), "model_fields", None)
    return None if fields is None else list(fields)
