"""The LLM API's classes."""

from .llm_args import *  # noqa: F403


class RequestError(RuntimeError):
    """One request failed."""
