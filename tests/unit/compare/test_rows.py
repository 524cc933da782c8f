"""What is computed from a sweep's rows."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from specdec_bench.compare.cell import Measured
from specdec_bench.compare.labels import label, method_name
from specdec_bench.compare.rows import _add_ideal
from specdec_bench.metrics.summary import summarize
from specdec_bench.records.summary import Distribution
from tests.helpers.made_runs import manifest


def row(ngram_max: int, draft_length: int, step_time_ms: float) -> dict[str, Any]:
    return {
        "spec": "ngram",
        "spec.ngram_max": ngram_max,
        "draft_length": draft_length,
        "step_time_ms_p50": step_time_ms,
        "acceptance_length": 2.0,
    }


def test_the_cost_of_a_draft_step_is_of_one_variant_of_a_method() -> None:
    rows = [row(2, 1, 12.0), row(2, 3, 16.0), row(4, 1, 20.0), row(4, 3, 40.0)]
    made = summarize([], manifest())
    made = replace(made, latency=replace(made.latency, step_time_ms=Distribution(count=1, p50=10.0)))
    plain = SimpleNamespace(summary=made)
    _add_ideal(rows, cast(Measured, plain), ["load.repeats", "spec.ngram_max"])
    # 2 ms and 10 ms for each token more, of a plain step of 10 ms.
    assert [found["cost_ratio"] for found in rows] == pytest.approx([0.2, 0.2, 1.0, 1.0])
    # 2 tokens in the time of K drafts and one step of the target.
    assert rows[1]["ideal_speedup"] == pytest.approx(2 / (3 * 0.2 + 1))


def test_a_cell_whose_draft_length_follows_the_batch_has_no_ideal_speedup() -> None:
    """Its step time would bend the cost of a draft step: 60 ms at a K of 5 that was not in force."""
    rows = [row(2, 1, 12.0), row(2, 3, 16.0), row(2, 5, 60.0) | {"draft_lengths": "5..0"}]
    made = summarize([], manifest())
    made = replace(made, latency=replace(made.latency, step_time_ms=Distribution(count=1, p50=10.0)))
    _add_ideal(rows, cast(Measured, SimpleNamespace(summary=made)), [])
    assert [found.get("cost_ratio") for found in rows] == [pytest.approx(0.2), pytest.approx(0.2), None]
    assert "ideal_speedup" not in rows[2]


def test_a_method_is_named_by_what_tells_it_apart() -> None:
    varying_fields = ["load.repeats", "spec.ngram_max"]
    assert label(row(2, 3, 1.0), varying_fields) == "ngram K=3 ngram_max=2"
    assert label(row(2, 3, 1.0), []) == "ngram K=3"
    assert label(row(2, 5, 1.0) | {"draft_lengths": "5..0"}, []) == "ngram K=5..0"
    assert method_name(row(2, 5, 1.0) | {"draft_lengths": "5..0"}, []) == "ngram"
    assert method_name(row(2, 3, 1.0), varying_fields) == "ngram ngram_max=2"
    assert label({"spec": "none", "spec.ngram_max": None, "draft_length": None}, varying_fields) == "none"
