"""Names, shapes and types of a checkpoint's tensors, from the headers of its safetensors files."""

import functools
import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from specdec_bench.checkpoints.files import find_json, folder_stamp, is_there, names_in
from specdec_bench.errors import ConfigError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

_OTHER_FORMATS = (".bin", ".pt", ".pth", ".gguf", ".npz", ".msgpack", ".h5")
_NO_WEIGHTS = ("training_args", "optimizer", "scheduler", "rng_state", "trainer_state")
"""Prefixes of files in such formats that hold no weights."""

_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F4": 4,
}
"""Bits of one element, by the format's name of its type."""
_MAX_HEADER_BYTES = 100_000_000
"""The safetensors library's own limit."""


class Tensor(NamedTuple):
    """One tensor and the file that holds it."""

    file: str
    dtype: str
    shape: tuple[int, ...]


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint's weights, described without reading them."""

    files: tuple[str, ...]
    tensors: dict[str, Tensor]
    """By name; empty if there are no safetensors files."""

    def summary(self) -> dict[str, Any]:
        """Returns counts, and one hash over all names, shapes and types."""
        listed = [[name, tensor.dtype, tensor.shape] for name, tensor in sorted(self.tensors.items())]
        return {
            "files": list(self.files),
            "num_tensors": len(listed),
            "num_elements": sum(math.prod(tensor.shape) for tensor in self.tensors.values()),
            "dtypes": dict(sorted(Counter(tensor.dtype for tensor in self.tensors.values()).items())),
            "tensors_sha256": hashlib.sha256(json.dumps(listed).encode()).hexdigest() if listed else None,
        }


def read_weights(folder: Path) -> Weights | None:
    """Returns the content of the weights' headers in a folder; None if it holds no weights.

    Raises:
        ConfigError: a file is damaged, cut off or missing. The message names the file and any tensor.
    """
    return _read(folder, folder_stamp(folder)) if folder.is_dir() else None


@functools.lru_cache(maxsize=4)  # target and draft are looked at several times before an engine starts
def _read(folder: Path, _: frozenset[tuple[str, int, int]]) -> Weights | None:
    placed = _index(folder)
    files = sorted(set(placed.values()))
    if is_there(folder / SINGLE):
        files = [SINGLE, *(file for file in files if file != SINGLE)]
    files = files or names_in(folder, ".safetensors")
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors |= {name: Tensor(file, *rest) for name, rest in _header(folder / file).items()}
    for name, file in placed.items():
        if name not in tensors:
            raise ConfigError(f"{folder / file}: lacks tensor {name}, which {INDEX} says it has; complete the download")
    if not files:
        others = [name for suffix in _OTHER_FORMATS for name in names_in(folder, suffix)]
        files = [name for name in others if not name.startswith(_NO_WEIGHTS)]
    return Weights(files=tuple(files), tensors=tensors) if files else None


def _index(folder: Path) -> dict[str, str]:
    """Returns the file of each tensor if the checkpoint has several files; nothing if it has one.

    Raises:
        ConfigError: the index is damaged, or a file that it names is missing.
    """
    index = find_json(folder / INDEX)
    if index is None:
        return {}
    placed = index.get("weight_map")
    if not isinstance(placed, dict) or not all(isinstance(file, str) for file in placed.values()):
        raise ConfigError(f"{folder / INDEX}: has no weight_map of tensors to files; the checkpoint is damaged")
    for name, file in placed.items():
        if not is_there(folder / file):
            raise ConfigError(f"{folder / file}: no such file; by {INDEX} it has tensor {name}; complete the download")
    return placed


def _header(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Returns type and shape of each tensor of a safetensors file.

    Raises:
        ConfigError: safetensors could not load it.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _MAX_HEADER_BYTES):
                raise ConfigError(f"{path}: has no safetensors header; the file is damaged or was cut off")
            header = json.loads(file.read(length))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); complete or repair the checkpoint") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: its safetensors header is not JSON ({error}); the file is damaged") from None
    if not isinstance(header, dict):
        raise ConfigError(f"{path}: its safetensors header is not a JSON object; the file is damaged")
    header.pop("__metadata__", None)
    tensors, data_bytes = {}, size - 8 - length
    reached = 0
    for begin, end, name, dtype, shape in sorted(_entries(path, header)):
        if end > data_bytes:
            raise ConfigError(
                f"{path}: is cut off within tensor {name} ({size} of {8 + length + end} bytes); complete the download"
            )
        if begin != reached or (end - begin) * 8 != math.prod(shape) * _BITS[dtype]:
            raise ConfigError(
                f"{path}: tensor {name} ({dtype} {list(shape)}) does not fill its place in the file, bytes {begin} to "
                f"{end}; the file is damaged"
            )
        tensors[name], reached = (dtype, shape), end
    if reached != data_bytes:
        raise ConfigError(f"{path}: has {data_bytes - reached} bytes beyond its last tensor; the file is damaged")
    return tensors


def _entries(path: Path, header: dict[str, Any]) -> Iterator[tuple[int, int, str, str, tuple[int, ...]]]:
    """Yields begin, end, name, type and shape of each tensor.

    Raises:
        ConfigError: an entry is not what the format says.
    """
    for name, entry in header.items():
        try:
            dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
            is_sane = all(type(number) is int and number >= 0 for number in (*shape, begin, end)) and begin <= end
        except (TypeError, KeyError, ValueError):
            is_sane = False
        if not is_sane:
            raise ConfigError(f"{path}: tensor {name} has no type, shape and place in the file; the file is damaged")
        if not isinstance(dtype, str) or dtype not in _BITS:
            raise ConfigError(f"{path}: tensor {name} is of the unknown type {dtype}; the file is damaged")
        yield begin, end, name, dtype, shape
