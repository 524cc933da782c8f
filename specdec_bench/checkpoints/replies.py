"""Selects the part of a reply that the conversation's next prompt shows, by the model's format."""

import re


def harmony_final(raw: str) -> str:
    """Returns the last message of the final channel; empty where the reply ended before one.

    Source: OpenAI's harmony format, as gpt-oss's chat template writes it.
    """
    begin = r"<\|channel\|>final[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>"
    end = r"<\|(?:end|return|start|channel|call)\|>|\Z"
    found = re.findall(f"{begin}(.*?)(?={end})", raw, re.DOTALL)
    return str(found[-1]) if found else ""


def without_thinking(raw: str, begins_with_thinking: bool) -> str:
    """Returns the text after the last </think>. If the reply ended while thinking, the text before that.

    Args:
        raw: the reply.
        begins_with_thinking: the prompt ends in an opening tag of its own, which the reply then lacks.
    """
    before, closing, after = raw.rpartition("</think>")
    if closing:
        return after
    before, opening, _ = raw.partition("<think>")
    return "" if begins_with_thinking and not opening else before
