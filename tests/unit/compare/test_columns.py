"""The figure by which a sweeper judges cells."""

import pytest
from msgspec.structs import replace

from specdec_bench.compare.columns import METRICS, metric_value
from specdec_bench.errors import ConfigError, EngineError
from specdec_bench.metrics.summary import summarize
from specdec_bench.records.summary import Distribution
from specdec_bench.sweep.objective import check_objective, objective
from tests.helpers.made_runs import manifest

TIMES = Distribution(count=1, mean=9.0, p50=1.0)
MADE = summarize([], manifest())
SUMMARY = replace(
    MADE,
    acceptance=replace(
        MADE.acceptance,
        pooled=replace(MADE.acceptance.pooled, acceptance_length=2.5, acceptance_length_drafted=2.75),
    ),
    latency=replace(
        MADE.latency,
        ttft_ms=replace(TIMES, p50=5.0),
        tpot_ms=replace(TIMES, mean=0.5),
        e2e_ms=TIMES,
        ttft_from_schedule_ms=replace(TIMES, p50=6.0),
        e2e_from_schedule_ms=replace(TIMES, mean=10.0),
        step_time_ms=TIMES,
    ),
    throughput=replace(
        MADE.throughput,
        output_tps=100,
        output_tps_steady=110.0,
        output_tps_per_user=50.0,
        output_tps_per_request=replace(TIMES, mean=60.0),
    ),
    energy=replace(MADE.energy, energy_per_token_j=0.75),
    cost=replace(MADE.cost, cost_per_million_tokens=1.25),
)


def test_every_figure_lies_where_the_summary_has_it() -> None:
    assert [metric_value(SUMMARY, name) for name in METRICS] == [
        2.5,
        2.75,
        None,
        5.0,
        0.5,
        9.0,
        6.0,
        10.0,
        1.0,
        100.0,
        110.0,
        50.0,
        60.0,
        None,
        None,
        0.75,
        1.25,
    ]


def test_an_undefined_figure_is_no_objective() -> None:
    assert objective(SUMMARY, "tpot_ms_mean") == 0.5
    with pytest.raises(EngineError, match="objective=draft_acceptance_rate: undefined in this run"):
        objective(SUMMARY, "draft_acceptance_rate")


@pytest.mark.parametrize("name", METRICS)
def test_the_direction_has_to_be_the_better_one(name: str) -> None:
    better = METRICS[name].better
    worse = {"minimize": "maximize", "maximize": "minimize"}[better]
    check_objective(name)
    check_objective(name, better)
    for wrong in (worse, [better, worse]):
        with pytest.raises(ConfigError, match=f"pass hydra.sweeper.direction={better}"):
            check_objective(name, wrong)
