"""What benchmarks/server_cost.py runs and how it compares."""

from argparse import Namespace
from pathlib import Path

import pytest
import yaml
from server_cost import Cell, ratio, sweeps

from specdec_bench.archive import RunDirectory


def options(**changed: str | None) -> Namespace:
    given = {"methods": "none,ngram", "side": None, "loads": "64,2048", "rates": "100"}
    return Namespace(**given | {"clients_at": "2048"} | changed, requests=1024, seconds=8.0)


def test_each_method_runs_in_process_and_behind_the_server() -> None:
    found = {sweep.name: list(sweep.experiments) for sweep in sweeps(options())}
    in_process = ["at_64_clients_1", "at_2048_clients_1", "rate_100"]
    server = ["at_64_clients_1", "at_2048_clients_1", "at_2048_clients_auto", "rate_100"]
    assert found == {
        "none_in_process": in_process,
        "none_server": server,
        "ngram_in_process": in_process,
        "ngram_server": server,
    }


def test_one_side_can_be_run_alone() -> None:
    assert [sweep.name for sweep in sweeps(options(side="server", methods="none"))] == ["none_server"]


def test_a_load_lasts_two_rounds_or_as_many_requests_as_were_asked_for() -> None:
    (sweep,) = sweeps(options(side="server", methods="none"))
    numbers = {name: yaml.safe_load(text)["dataset"]["num_prompts"] for name, text in sweep.experiments.items()}
    assert numbers == {
        "at_64_clients_1": 16 * 64,
        "at_2048_clients_1": 2 * 2048,
        "at_2048_clients_auto": 2 * 2048,
        "rate_100": 8 * 100,
    }


def test_replicates_are_compared_in_pairs() -> None:
    """50 to 100 and 80 to 40: the geometric mean of 1/2 and 2 is 1. The third has no counterpart."""

    def cells(*speeds: float) -> list[Cell]:
        return [
            Cell(RunDirectory(Path("none")), {"tokens_per_s": speed}, {}, replicate)
            for replicate, speed in enumerate(speeds)
        ]

    value, low, high = ratio(cells(50, 80, 70), cells(100, 40))
    assert (value, low, high) == (pytest.approx(1.0), None, None)
    assert ratio(cells(50), []) == (None, None, None)
