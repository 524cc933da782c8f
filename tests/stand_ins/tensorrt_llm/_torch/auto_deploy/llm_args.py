"""AutoDeploy's arguments."""

from ...llmapi import llm_args

LlmArgs = llm_args.LlmArgs  # type: ignore[attr-defined]
