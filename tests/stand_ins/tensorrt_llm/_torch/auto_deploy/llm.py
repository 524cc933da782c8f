"""AutoDeploy's LLM."""

from ... import _llm
from .llm_args import LlmArgs


class LLM(_llm.LLM):
    """The same requests and results, other arguments."""

    ARGS = LlmArgs
    BACKEND = "_autodeploy"
