"""How large a grid is, before its cells are composed."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from specdec_bench.errors import ConfigError
from specdec_bench.sweep.grid_size import check_plugin_numbers, check_size


def check(*lines: str) -> None:
    check_size(OverridesParser.create().parse_overrides(list(lines)))


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["seed=0"],
        ["a=1,2,3", "b=choice(1,2)"],
        ["a=range(0,100)", "b=range(0,100)"],  # 10,000
        ["a=range(0,1000000)", "a=1,2"],  # the later holds
        ["a=range(0.0,1.0,0.1)"],
        ["a=range(5,0,-1)"],
    ],
)
def test_what_can_be_planned_is_let_pass(lines: list[str]) -> None:
    check(*lines)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["a=range(0,100)", "b=range(0,101)"], r"^a=range\(0,100\) b=range\(0,101\): 10,100 cells; .* at most 10,000"),
        (["a=range(0,1000000000000)"], "1,000,000,000,000 cells"),
        (["a=range(0,1000000000,3)"], "333,333,334 cells"),
        (["a=range(1000000,0,-7)"], "142,858 cells"),
        (["a=range(5,1)"], r"^a=range\(5,1\): has no values"),
        (["a=range(1,5,-1)"], "has no values"),
        (["a=range(1,5,0)"], "has no end"),
        (["a=range(1,inf)"], "has no end"),
        (["a=range(0,1,nan)"], "has no end"),
        (["a=interval(0,1)"], r"^a=interval\(0,1\): only hydra/sweeper=optuna_tpe"),
    ],
)
def test_what_cannot_be_is_refused_without_making_its_values(lines: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check(*lines)


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        ("sweeper", {"n_trials": 0}, r"^hydra\.sweeper\.n_trials=0: must be at least 1$"),
        ("sweeper", {"n_trials": 20, "n_jobs": 0}, r"^hydra\.sweeper\.n_jobs=0: must be at least 1$"),
        ("launcher", {"n_jobs": 0}, r"^hydra\.launcher\.n_jobs=0: must be at least 1$"),
        (
            "launcher",
            {"timeout_min": 10**9},
            r"^hydra\.launcher\.timeout_min=1000000000: must be at most 525,600; a year$",
        ),
    ],
)
def test_a_plugin_s_numbers_have_bounds_too(kind: str, settings: dict[str, int], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_plugin_numbers(OmegaConf.create({kind: settings}))


@pytest.mark.parametrize("settings", [{}, {"n_jobs": -1}, {"n_jobs": 2, "timeout_min": None}])
def test_all_cores_and_what_a_plugin_lacks_are_let_pass(settings: dict[str, int | None]) -> None:
    check_plugin_numbers(OmegaConf.create({"launcher": settings, "sweeper": {}}))
