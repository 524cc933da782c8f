"""What is refused before anything loads, in one line that says what to do."""

from dataclasses import dataclass

import pytest

from specdec_bench.config.schema.engine import EngineConfig, SyntheticEngine, TransformersEngine
from specdec_bench.config.schema.experiment import OPTIONS, ExperimentConfig
from specdec_bench.config.schema.load import ClosedLoad, LoadConfig, PoissonLoad
from specdec_bench.config.schema.model import DraftCheckpoint
from specdec_bench.config.schema.spec import DraftingSpec, DraftModelSpec, NgramSpec, NoSpec, SpecConfig
from specdec_bench.config.support import ANY, ENGINES, EngineSupport, check_support
from specdec_bench.engines import base
from specdec_bench.errors import ConfigError
from tests.helpers import build


@dataclass(kw_only=True)
class TreeSpec(DraftingSpec):
    """A method that no engine here has, and one parameter that some might not take."""

    name: str = "tree"
    width: int | None = None


def experiment(
    engine: EngineConfig | None = None, spec: SpecConfig | None = None, load: LoadConfig | None = None
) -> ExperimentConfig:
    return build.experiment(
        engine=engine or TransformersEngine(),
        spec=spec or NoSpec(),
        load=load or ClosedLoad(),
    )


def refusal(config: ExperimentConfig) -> str:
    with pytest.raises(ConfigError) as caught:
        check_support(config)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("engine", [TransformersEngine(), SyntheticEngine()], ids=lambda engine: engine.name)
@pytest.mark.parametrize(
    "spec",
    [
        NoSpec(),
        NgramSpec(draft_length=7, ngram_max=9),
        DraftModelSpec(),
        DraftModelSpec(draft=DraftCheckpoint(path="org/draft")),
    ],
    ids=["none", "ngram", "known draft", "named draft"],
)
def test_what_an_engine_can_do_is_let_through(engine: EngineConfig, spec: SpecConfig) -> None:
    check_support(experiment(engine, spec))


def test_a_method_that_the_engine_lacks_is_refused_with_those_that_it_has() -> None:
    """It would run plain decoding under the speculative label."""
    assert refusal(experiment(spec=TreeSpec())) == (
        "spec=tree: engine=transformers has no such method; it has none, ngram, draft_model"
    )


def test_an_engine_that_has_the_method_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    support = EngineSupport(adapter="", package=None, methods={"tree": {"draft_length": ANY, "width": ANY}})
    monkeypatch.setitem(ENGINES, "forest", support)
    assert refusal(experiment(spec=TreeSpec())).endswith("; tree runs on engine=forest")


def test_a_parameter_that_the_engine_lacks_is_refused_unless_it_is_null(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is dropped silently."""
    support = EngineSupport(adapter="", package=None, methods={"tree": {"draft_length": ANY}})
    monkeypatch.setitem(ENGINES, "transformers", support)
    check_support(experiment(spec=TreeSpec()))
    assert refusal(experiment(spec=TreeSpec(width=2))) == (
        "spec.width=2: engine=transformers has no such parameter for tree; leave it null"
    )


def test_a_value_that_the_engine_does_not_take_is_refused_with_those_that_it_does() -> None:
    assert refusal(experiment(spec=NgramSpec(ngram_min=2, ngram_max=4))) == (
        "spec.ngram_min=2: engine=transformers takes only 1 for ngram (its prompt lookup falls back to single tokens)"
    )
    check_support(experiment(SyntheticEngine(), NgramSpec(ngram_min=2, ngram_max=4)))


def test_more_at_a_time_than_the_engine_takes_is_refused() -> None:
    assert refusal(experiment(load=ClosedLoad(concurrency=2))) == (
        "load.concurrency=2: engine=transformers takes at most 1 (assisted generation runs one request at a time)"
    )
    check_support(experiment(load=ClosedLoad(concurrency=1)))
    check_support(experiment(SyntheticEngine(), load=ClosedLoad(concurrency=4096)))


def test_an_engine_of_one_request_at_a_time_takes_no_load_that_does_not_wait() -> None:
    assert refusal(experiment(load=PoissonLoad(rate=0.001))) == (
        "load=poisson: engine=transformers takes at most 1 request at a time (assisted generation runs one request at "
        "a time), and this load sends while others are in flight; choose load=closed"
    )
    check_support(experiment(SyntheticEngine(), load=PoissonLoad(rate=1000)))


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_runs_the_baseline(name: str) -> None:
    """Without plain decoding on the same engine nothing can be compared."""
    assert "none" in ENGINES[name].methods


def test_every_limit_has_its_reason() -> None:
    """`check_support` would otherwise fail while it refuses."""
    for name, support in ENGINES.items():
        if support.max_concurrency is not None:
            assert "concurrency" in support.reasons, name


def test_every_engine_that_can_be_configured_has_its_row_and_its_adapter() -> None:
    assert OPTIONS["engine"].keys() == ENGINES.keys()
    for option in OPTIONS["engine"].values():
        assert base.create(experiment(option())) is not None
