"""The one encoding of a value that hashes are taken of."""

import json

import msgspec


def canonical_json(value: object) -> bytes:
    """Returns the one encoding of a value that fingerprints are taken of: keys sorted, ASCII, no spaces."""
    plain = msgspec.to_builtins(value)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
