"""JSON of a shape that is not known: an engine's resolved configuration, an experiment's options."""

from typing import TYPE_CHECKING, Any

Scalar = str | int | float | bool | None
"""JSON that holds nothing else: a cell of a table."""

if TYPE_CHECKING:
    Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None
    """Whatever JSON can say."""
else:
    Json = Any  # msgspec decodes no type that contains itself
