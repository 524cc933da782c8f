"""What the installed TensorRT-LLM has: `python -m specdec_bench.engines.tensorrt_llm.release` writes it as JSON.

A process that measures a server must not import TensorRT-LLM. It asks another.
"""

import importlib
import sys
from typing import Any

import msgspec

from specdec_bench.engines.other_process import ask
from specdec_bench.engines.tensorrt_llm.arguments import CLASSES, Release
from specdec_bench.errors import EngineUnavailableError

LLM_ARGS = "tensorrt_llm.llmapi.llm_args.TorchLlmArgs"
"""The arguments of the PyTorch backend."""


def find(path: str) -> Any:
    """Returns what a dotted path names."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def find_classes() -> dict[str, Any]:
    """Returns the LLM API's classes that the project uses and the release has, by name."""
    modules = [importlib.import_module(name) for name in ("tensorrt_llm.llmapi.llm_args", "tensorrt_llm.llmapi")]
    return {name: getattr(module, name) for module in modules for name in CLASSES if hasattr(module, name)}


def read(version: str, llm_args: Any) -> Release:
    """Returns what this TensorRT-LLM has.

    Args:
        version: its own.
        llm_args: the class of the backend's arguments.
    """
    return Release(
        version=version,
        known=tuple(llm_args.model_fields),
        fields={name: tuple(found.model_fields) for name, found in find_classes().items()},
    )


def read_in_another_process(engine: str) -> Release:
    """Returns what the installed TensorRT-LLM has, without importing it here.

    Args:
        engine: who asks, for the message.

    Raises:
        EngineUnavailableError: it is missing, too old, or cannot be imported.
    """
    told = ask("specdec_bench.engines.tensorrt_llm.release", Release)
    if isinstance(told, str):
        raise unavailable(engine, told)
    return told


def unavailable(engine: str, reason: str) -> EngineUnavailableError:
    """Returns the error of a release that is missing or too old."""
    return EngineUnavailableError(
        f"engine={engine} needs TensorRT-LLM 1.0 or later ({reason}); run in NVIDIA's container: PyPI has only a stub "
        "of it"
    )


def main() -> None:
    """Writes what the installed TensorRT-LLM has, or why it cannot be imported."""
    try:
        package = importlib.import_module("tensorrt_llm")
        told: Release | str = read(package.__version__, find(LLM_ARGS))
    except (ImportError, AttributeError) as error:
        told = str(error)
    sys.stdout.write(msgspec.json.encode(told).decode() + "\n")


if __name__ == "__main__":
    main()
