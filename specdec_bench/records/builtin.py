"""Objects of any kind as JSON's types."""

from specdec_bench.records.json_types import Json


def to_builtin(value: object) -> Json:
    """Returns JSON's types for anything: an object becomes what `str` makes of it, and so does a key."""
    if isinstance(value, dict):
        return {str(key): to_builtin(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_builtin(item) for item in value]
    for kind in (bool, int, float):
        if isinstance(value, kind):
            return kind(value)
    return value if value is None else str(value)
