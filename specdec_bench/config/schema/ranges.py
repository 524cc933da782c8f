"""The checks of ranges that all options share."""

from specdec_bench.errors import ConfigError


def require(condition: bool, key: str, value: object, fix: str) -> None:
    """Raises ConfigError in the one form that all range checks share."""
    if not condition:
        raise ConfigError(f"{key}={value}: {fix}")


def at_least(minimum: int, **values: int | None) -> None:
    """Raises ConfigError for the first value below the minimum; a key's `__` stands for its dot, null is let pass."""
    for key, value in values.items():
        if value is not None:
            require(value >= minimum, key.replace("__", "."), value, f"must be at least {minimum}")
