"""The LLM API's classes."""

from .llm_args import *  # noqa: F403
