"""Structs as the files of a run have them."""

import json
from typing import Any

import msgspec


def as_tree(value: object) -> Any:
    """Returns what JSON makes of a value: dictionaries and lists."""
    return json.loads(json.dumps(msgspec.to_builtins(value)))
