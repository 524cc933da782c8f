"""A stand-in for TensorRT-LLM, which cannot be installed here: its signatures, and results that behave as its do.

It runs no model. Without a script, a request gets the token ids 1000, 1001, ... : one from the prefill, then steps of
one token in plain decoding, and with drafts K + 1 tokens and one in turn. Its version says what it is.
"""

from ._llm import LLM, Response
from ._signatures import CLASSES, DATA

__version__ = f"0.0.0+stand.in.of.{DATA['commits']['tensorrt_llm/llmapi/llm_args.py'][:12]}"

SamplingParams = CLASSES["SamplingParams"]

__all__ = ["LLM", "Response", "SamplingParams"]
