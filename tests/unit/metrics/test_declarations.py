"""What is derived from the list of metrics."""

import math
from pathlib import Path

import pytest

from specdec_bench.compare.columns import METRICS as COLUMNS
from specdec_bench.compare.headline import RATIOS
from specdec_bench.metrics.acceptance import RequestAcceptance
from specdec_bench.metrics.declarations import BY_NAME, METRICS
from specdec_bench.metrics.declarations_page import render_page
from specdec_bench.metrics.definitions import DEFINITIONS
from specdec_bench.metrics.timing import RequestTimes

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == render_page(), (
        "python -m specdec_bench.metrics.declarations_page > docs/metrics.md"
    )


def test_each_name_is_declared_once() -> None:
    assert len(BY_NAME) == len(METRICS)
    assert "speedup_tpot" in BY_NAME.keys() - DEFINITIONS.keys(), "it is not of a single run"


def test_the_columns_are_the_declared_statistics() -> None:
    assert COLUMNS["ttft_ms_p50"] == (("latency", "ttft_ms", "p50"), "minimize", "TTFT p50")
    assert COLUMNS["output_tps"] == (("throughput", "output_tps"), "maximize", "tokens/s")
    assert "itl_ms" not in COLUMNS


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("acceptance_length", (10, 4)),
        ("acceptance_length_drafted", (3 + 6, 3)),
        ("draft_acceptance_rate", (6, 9)),
        ("tpot_ms_mean", (2.0, 1)),
        ("e2e_ms_mean", (25.0, 1)),
        ("output_tps_per_user", (10, 0.02)),
    ],
)
def test_a_request_adds_its_terms_to_both_sums(name: str, terms: tuple[float, float]) -> None:
    counts = RequestAcceptance(output_tokens=11, decode_steps=4, verify_steps=3, proposed=9, accepted=6)
    times = RequestTimes(ttft_ms=5.0, tpot_ms=2.0, e2e_ms=25.0, later_tokens=10, decode_ms=20.0)
    assert RATIOS[name](counts, times) == pytest.approx(terms)


def test_what_a_request_lacks_adds_nothing_and_what_is_unknown_leaves_no_value() -> None:
    counts = RequestAcceptance(output_tokens=1, decode_steps=None)
    times = RequestTimes(ttft_ms=5.0, tpot_ms=None, e2e_ms=5.0)
    assert RATIOS["tpot_ms_mean"](counts, times) == (0, 0)
    assert RATIOS["acceptance_length"](counts, times).numerator == 0
    assert math.isnan(RATIOS["acceptance_length"](counts, times).denominator)
