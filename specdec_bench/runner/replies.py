"""The replies of a run as text, decoded after measuring."""

from collections.abc import Callable, Iterator, Sequence

from specdec_bench.archive.layout import Response, RunDirectory
from specdec_bench.archive.redact import redact_text
from specdec_bench.checkpoints.prompter import Prompter
from specdec_bench.records.request import Prompt, RequestRecord
from specdec_bench.records.shown_first import shown_first

MAX_SPLIT_TOKENS = 8192
"""Decoding a reply token by token takes about 50 us a token, so that only so many are split in a run."""


def responses(run: RunDirectory, prompts: Sequence[Prompt], prompter: Prompter) -> Iterator[Response]:
    """Yields the text of each finished request.

    The replies that a report shows also have the length of each token's text, up to `MAX_SPLIT_TOKENS` in all.
    """
    shown, num_split = set(shown_first(prompts)), 0
    for record in run.requests():
        if record.phase != "measure" or not record.output_token_ids:
            continue
        text = prompter.decode(record.output_token_ids)
        redacted = redact_text(text)
        lengths = None
        num_tokens = len(record.output_token_ids)
        if record.prompt_id in shown and record.repeat == 0 and num_split + num_tokens <= MAX_SPLIT_TOKENS:
            num_split += num_tokens
            # The lengths of a text that is not the archived one would mark the wrong places.
            lengths = token_lengths(prompter.decode, record.output_token_ids, text) if redacted == text else None
        yield Response(
            request_id=record.request_id,
            prompt_id=record.prompt_id,
            turn=record.turn,
            repeat=record.repeat,
            text=redacted,
            token_lengths=lengths,
            first_chunk_length=first_chunk_length(prompter.decode, record, text) if redacted == text else None,
        )


def first_chunk_length(decode: Callable[[Sequence[int]], str], record: RequestRecord, text: str) -> int | None:
    """Returns how many characters of the text the tokens of the first chunk add; None if that cannot be told.

    A character that several tokens make up belongs to the last of them.
    """
    num_tokens = next((step.num_tokens for step in record.steps if step.num_tokens > 0), 0)
    beginning = decode(record.output_token_ids[:num_tokens]).rstrip("\ufffd")
    return len(beginning) if text.startswith(beginning) else None


def token_lengths(
    decode: Callable[[Sequence[int]], str], token_ids: Sequence[int], text: str
) -> tuple[int, ...] | None:
    """Returns how many characters of the text each token adds; None if the text is not the sum of its tokens.

    A character that several tokens make up belongs to the last of them. Each token is decoded behind those before it,
    because a tokenizer may write a token differently at the beginning of a text.

    Args:
        decode: turns token ids into text.
        token_ids: of the reply.
        text: the reply, as `decode` gives it.
    """
    lengths, length, begin, end = [], 0, 0, 0
    before = ""
    for number in range(1, len(token_ids) + 1):
        now = decode(token_ids[begin:number])
        if len(now) <= len(before) or now.endswith("\ufffd"):  # a special token, or part of a character
            lengths.append(0)
            continue
        added = now[len(before) :]
        if not now.startswith(before) or text[length : length + len(added)] != added:
            return None
        lengths.append(len(added))
        length += len(added)
        begin, end = end, number
        before = decode(token_ids[begin:end])
    if lengths:
        lengths[-1] += len(text) - length  # what never became a whole character
    return tuple(lengths)
