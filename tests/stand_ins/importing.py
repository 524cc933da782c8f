"""Lets `import tensorrt_llm` find the stand-in."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def tensorrt_llm() -> Iterator[None]:
    """The stand-in is TensorRT-LLM within it, and for nobody after it."""
    folder = str(Path(__file__).resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        for name in [name for name in sys.modules if name.partition(".")[0] == "tensorrt_llm"]:
            del sys.modules[name]
