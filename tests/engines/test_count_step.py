"""What one decode step proposed and accepted, from its candidates and what it emitted. Every row by hand."""

import pytest

from specdec_bench.engines.transformers.steps import count_step

A, B, C, D, X, EOS, END = 10, 11, 12, 13, 20, 2, 3
STOPS = frozenset({EOS, END})
MANY = 100


@pytest.mark.parametrize(
    ("drafts", "token_ids", "remaining", "expected"),
    [
        pytest.param([], [A], MANY, (0, 0), id="nothing drafted"),
        pytest.param([A, B, C], [X], MANY, (3, 0), id="first rejected"),
        pytest.param([A, B, C], [A, X], MANY, (3, 1), id="second rejected"),
        pytest.param([A, B, C], [A, B, X], MANY, (3, 2), id="third rejected"),
        pytest.param([A, B, C], [A, B, C, D], MANY, (3, 3), id="all accepted, and a bonus"),
        pytest.param([A], [A, B], MANY, (1, 1), id="draft length 1, accepted"),
        pytest.param([A], [B], MANY, (1, 0), id="draft length 1, rejected"),
        pytest.param([A, A, A], [A, A, A, A], MANY, (3, 3), id="bonus equal to the drafts"),
        pytest.param([A, B, C], [X, B, C], MANY, (3, 0), id="matches behind a rejection do not count"),
        pytest.param([A, B, EOS], [A, B, EOS], MANY, (3, 3), id="accepted stop token ends without a bonus"),
        pytest.param([A, EOS, C, D], [A, EOS], MANY, (2, 2), id="drafts behind a drafted stop are no proposals"),
        pytest.param([A, END, EOS, D], [A, END], MANY, (2, 2), id="any of several stop tokens ends the draft"),
        pytest.param([EOS, B, C], [EOS], MANY, (1, 1), id="stop drafted first and accepted"),
        pytest.param([EOS, B, C], [A], MANY, (1, 0), id="stop drafted first and rejected"),
        pytest.param([A, EOS], [A, END], MANY, (2, 1), id="another stop than the drafted one: its correction"),
        pytest.param([A, B, C], [A, EOS], MANY, (3, 1), id="the target's own stop, as a correction"),
        pytest.param([A, B, C], [A, B, C, EOS], MANY, (3, 3), id="the target's own stop, as a bonus"),
        pytest.param([A, B, C], [A, B, C, D], 4, (3, 3), id="the limit just fits the bonus"),
        pytest.param([A, B, C], [A, B, C], 3, (2, 2), id="the last token of a request is the target's own"),
        pytest.param([A, B, C, D, X], [A, B], 2, (1, 1), id="drafts beyond remaining - 1 are no proposals"),
        pytest.param([A, B, C], [X], 2, (1, 0), id="limit and rejection"),
        pytest.param([A, B, C], [A], 1, (0, 0), id="one token remaining: nothing can be proposed"),
        pytest.param([A, B, EOS], [A, B, EOS], 3, (2, 2), id="a drafted stop beyond the limit is no proposal"),
        pytest.param([A, EOS, C], [A, EOS], 3, (2, 2), id="a drafted stop just within the limit"),
    ],
)
def test_proposals_and_acceptances_of_one_step(
    drafts: list[int], token_ids: list[int], remaining: int, expected: tuple[int, int]
) -> None:
    assert count_step(drafts, token_ids, remaining, STOPS) == expected


def test_without_stop_ids_no_token_ends_a_draft() -> None:
    assert count_step([A, EOS, C], [A, EOS, C, D], MANY, frozenset()) == (3, 3)
