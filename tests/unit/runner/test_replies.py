"""Which characters of a reply each token adds."""

from collections.abc import Sequence

import pytest

from specdec_bench.records.request import Step
from specdec_bench.runner.replies import first_chunk_length, token_lengths
from tests.helpers.archive_samples import make_request

WORDS = {1: b"Hello", 2: b" world", 3: "字".encode()[:1], 4: "字".encode()[1:], 5: b"", 6: b"!"}


def decode(token_ids: Sequence[int]) -> str:
    """A tokenizer of bytes, in which a character may need two tokens and a special token has no text."""
    return b"".join(WORDS[token_id] for token_id in token_ids).decode(errors="replace")


def decode_words(token_ids: Sequence[int]) -> str:
    """A tokenizer that drops the blank in front of the first word, as SentencePiece does."""
    return decode(token_ids).removeprefix(" ")


@pytest.mark.parametrize(
    ("token_ids", "lengths"),
    [
        ((1, 2, 6), (5, 6, 1)),
        ((1, 3, 4, 6), (5, 0, 1, 1)),
        ((1, 5, 2), (5, 0, 6)),
        ((1, 3), (5, 1)),
        ((5,), (0,)),
        ((), ()),
    ],
)
def test_lengths_add_up_to_the_text(token_ids: tuple[int, ...], lengths: tuple[int, ...]) -> None:
    found = token_lengths(decode, token_ids, decode(token_ids))
    assert found == lengths
    assert sum(lengths) == len(decode(token_ids))


def test_a_token_is_decoded_behind_those_before_it() -> None:
    assert token_lengths(decode_words, (2, 2, 1), decode_words((2, 2, 1))) == (5, 6, 5)


@pytest.mark.parametrize(
    ("token_ids", "num_first", "length"),
    [((1, 2), 1, 5), ((1, 2), 2, 11), ((1, 3, 4), 2, 5), ((1, 3, 4), 3, 6), ((5, 1), 1, 0)],
)
def test_the_first_chunk_has_the_characters_that_are_whole_by_then(
    token_ids: tuple[int, ...], num_first: int, length: int
) -> None:
    steps = (Step(received_ns=1, num_tokens=num_first), Step(received_ns=2, num_tokens=len(token_ids) - num_first))
    record = make_request(output_token_ids=token_ids, steps=steps)
    assert first_chunk_length(decode, record, decode(token_ids)) == length


def test_where_the_text_does_not_begin_with_the_first_chunk_its_length_is_unknown() -> None:
    record = make_request(output_token_ids=(1,), steps=(Step(received_ns=1, num_tokens=1),))
    assert first_chunk_length(decode, record, "another text") is None


def test_a_text_that_is_not_the_sum_of_its_tokens_has_no_lengths() -> None:
    assert token_lengths(decode, (1, 2), "Hello  world") is None
