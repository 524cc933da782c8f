"""Checkpoints' folders, made by hand."""

import json
import math
from pathlib import Path
from typing import Any

BYTES = {"F32": 4, "BF16": 2, "F16": 2, "I8": 1}


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def safetensors(tensors: dict[str, tuple[str, list[int]]]) -> bytes:
    """Returns the bytes of a file with these tensors (type and shape by name), all zeros."""
    header: dict[str, Any] = {}
    end = 0
    for name, (dtype, shape) in tensors.items():
        begin, end = end, end + math.prod(shape) * BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    return with_header(json.dumps(header).encode(), end)


def with_header(header: bytes, num_data_bytes: int) -> bytes:
    return len(header).to_bytes(8, "little") + header + bytes(num_data_bytes)
