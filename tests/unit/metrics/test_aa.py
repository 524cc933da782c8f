"""Rates in tokens of another vocabulary. Here a token is a pair of letters, or the letter that is left over."""

import pytest

from specdec_bench.metrics.aa import DEFINITIONS, ReplyText, aa_timing
from specdec_bench.metrics.definitions import DEFINITIONS as OF_SUMMARY
from specdec_bench.records.aa import AATiming
from specdec_bench.records.request import RequestRecord
from tests.helpers.archive_samples import make_prompt
from tests.helpers.made_archives import reply

SLOW = reply(make_prompt(0), (2, 0))
"""5 tokens: 1 at 100 ms, the others by 120 ms."""
FAST = reply(make_prompt(1), (3, 1))
"""7 tokens: 1 at 100 ms, the others by 120 ms."""


def count_pairs(text: str) -> int:
    return -(-len(text) // 2)


def timing(*replies: tuple[RequestRecord, ReplyText]) -> AATiming:
    texts = {record.request_id: text for record, text in replies}
    return aa_timing("r", [record for record, _ in replies], texts, count_pairs)


def test_rates_are_in_tokens_of_the_vocabulary() -> None:
    found = timing((SLOW, ReplyText("ABCDE", 1)), (FAST, ReplyText("ABCDEFG", 1)))
    assert (found.num_requests, found.num_without_speed) == (2, 0)
    assert (found.output_tokens, found.aa_tokens) == (5 + 7, 3 + 4)
    assert found.aa_tokens_per_token == 7 / 12
    # (3 - 1) and (4 - 1) tokens after the first chunk, each in 20 ms
    assert (found.aa_output_tps_per_request.min, found.aa_output_tps_per_request.max) == pytest.approx((100, 150))
    assert found.aa_output_tps_per_request.p50 == pytest.approx(125)
    assert found.aa_output_tps_per_user == pytest.approx(5 / 0.04)
    assert found.aa_output_tps == pytest.approx(7 / 0.12)


def test_a_reply_whose_first_chunk_is_unknown_counts_only_in_the_whole() -> None:
    found = timing((SLOW, ReplyText("ABCDE", None)), (FAST, ReplyText("ABCDEFG", 1)))
    assert (found.num_requests, found.num_without_speed, found.aa_tokens) == (2, 1, 7)
    assert found.aa_output_tps_per_request.count == 1
    assert found.aa_output_tps_per_user == pytest.approx(3 / 0.02)


def test_a_reply_in_one_chunk_has_no_speed() -> None:
    found = timing((reply(make_prompt(0), ()), ReplyText("A", 1)))
    assert found.aa_output_tps_per_request.count == 0
    assert found.aa_output_tps_per_user is None
    assert found.aa_output_tps == pytest.approx(1 / 0.1)


def test_warm_up_and_requests_without_text_are_left_out() -> None:
    warm_up = reply(make_prompt(0), (2, 0), phase="warmup")
    found = aa_timing("r", [warm_up, FAST], {warm_up.request_id: ReplyText("ABCDE", 1)}, count_pairs)
    assert (found.num_requests, found.aa_tokens) == (0, 0)
    assert (found.aa_output_tps, found.aa_tokens_per_token) == (None, None)


def test_the_summary_of_a_run_does_not_define_them() -> None:
    assert set(DEFINITIONS) == {name for name in AATiming.__struct_fields__ if name.startswith("aa_")}
    assert not set(DEFINITIONS) & set(OF_SUMMARY)
