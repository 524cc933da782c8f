"""Converts records to JSON and back, whatever text they hold.

msgspec does the work, but it refuses lone surrogates, which are legal in a Python string and occur in datasets. The
slower standard library converts such values, in both directions. JSON cannot represent one distinction: a surrogate
*pair* held as two code points comes back as the one character it stands for.
"""

import json
import math
from typing import TypeVar

import msgspec

from specdec_bench.errors import ArchiveError

T = TypeVar("T")

_ENCODER = msgspec.json.Encoder()
_LINE_SEPARATORS = (
    (b"\xc2\x85", b"\\u0085"),
    (b"\xe2\x80\xa8", b"\\u2028"),
    (b"\xe2\x80\xa9", b"\\u2029"),
)
"""UTF-8 of the characters that JSON leaves bare but `str.splitlines` splits at, and their escapes."""


def encode_line(record: object) -> bytes:
    """Returns a record as one line of JSON, newline included.

    It holds no other character that any reader takes for the end of a line.

    Raises:
        TypeError: the record holds something that is not plain data.
        ValueError: the same, where only the value shows it.
    """
    try:
        line = _ENCODER.encode(record)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(record), separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"
    for raw, escaped in _LINE_SEPARATORS:
        if raw in line:
            # It is inside a string: JSON allows it nowhere else. A backslash before it is itself escaped.
            line = line.replace(raw, escaped)
    return line + b"\n"


def encode_document(value: object) -> bytes:
    """Returns indented JSON with a trailing newline, for people to read.

    A float that JSON lacks becomes the string "NaN", "Infinity" or "-Infinity". An engine's resolved configuration
    may hold an infinite limit, and `null` would mean another setting.

    Raises:
        ArchiveError: the value holds something that is not plain data (a path, an array, a dtype).
    """
    try:
        plain = _finite(msgspec.to_builtins(value))
        text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False)
        try:
            return text.encode() + b"\n"
        except UnicodeEncodeError:
            return json.dumps(plain, indent=2, allow_nan=False).encode("ascii") + b"\n"
    except (TypeError, ValueError) as error:
        raise ArchiveError(
            f"cannot archive a {type(value).__name__}: {error}; convert it to plain data first"
        ) from error


def decode(data: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Returns one JSON document, decoded into the decoder's type.

    Raises:
        ValueError: the data is not JSON or does not fit the type.
    """
    try:
        return decoder.decode(data)
    except (ValueError, msgspec.MsgspecError) as error:
        # Only a surrogate escape is worth a second try; the standard library would refuse anything else, too.
        has_surrogate = b"\\ud" in data or b"\\uD" in data
        if isinstance(error, msgspec.ValidationError) or not has_surrogate:
            raise ValueError(str(error)) from error
    try:
        return msgspec.convert(json.loads(data.decode(), parse_constant=_refuse_constant), decoder.type)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(value: object) -> object:
    """Returns the value with every float that JSON lacks spelt out."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
