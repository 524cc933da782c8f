"""What the transformers engine does not start with is an error of one line."""

import asyncio
import shutil
from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.engines.base import create
from specdec_bench.errors import ConfigError, EngineError, SpecDecBenchError
from tests.helpers.engine_runs import experiment, spec_of
from tests.helpers.exactness import VOCABULARY, Pair


def checkpoint_without_weights(folder: Path, vocab_size: int = VOCABULARY) -> str:
    LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=1,
        architectures=["LlamaForCausalLM"],
    ).save_pretrained(folder)
    return str(folder)


def failure_of(config: ExperimentConfig) -> SpecDecBenchError:
    """Returns why the engine did not start. One line, whatever the cause."""
    engine = create(config)
    with pytest.raises(SpecDecBenchError) as failure:
        asyncio.run(engine.start())
    asyncio.run(engine.stop())
    assert "\n" not in str(failure.value)
    return failure.value


def test_a_draft_of_another_vocabulary_is_refused_before_any_weights_load(tmp_path: Path) -> None:
    target = checkpoint_without_weights(tmp_path / "target")
    draft = checkpoint_without_weights(tmp_path / "draft", VOCABULARY + 1)
    error = failure_of(experiment(spec_of("draft_model", 3, draft), target=target))
    assert isinstance(error, ConfigError)
    assert f"spec.draft.path={draft}" in str(error)
    assert f" {VOCABULARY + 1} tokens" in str(error)
    assert str(VOCABULARY) in str(error).replace(str(VOCABULARY + 1), "")


@pytest.mark.parametrize("key", ["dtype", "torch_dtype", "device_map", "attn_implementation", "trust_remote_code"])
def test_an_argument_that_another_setting_decides_is_refused_before_any_weights_load(tmp_path: Path, key: str) -> None:
    target = checkpoint_without_weights(tmp_path / "target")
    error = failure_of(experiment(spec_of("none", 0), target=target, extra_args={key: "auto"}))
    assert isinstance(error, ConfigError)
    assert f"engine.extra_args.{key}" in str(error)


def test_an_unknown_argument_is_refused_before_any_weights_load(tmp_path: Path) -> None:
    target = checkpoint_without_weights(tmp_path / "target")
    error = failure_of(experiment(spec_of("none", 0), target=target, extra_args={"low_cpu_mem_usag": True}))
    assert isinstance(error, ConfigError)
    assert "engine.extra_args.low_cpu_mem_usag" in str(error)


@pytest.mark.parametrize("missing", ["target", "draft"])
def test_missing_weights_are_an_engine_error_by_path(tmp_path: Path, random_pair: Pair, missing: str) -> None:
    paths = {"target": random_pair.target, "draft": random_pair.draft}
    paths[missing] = checkpoint_without_weights(tmp_path / missing)
    error = failure_of(experiment(spec_of("draft_model", 3, paths["draft"]), target=paths["target"]))
    assert isinstance(error, EngineError)
    assert paths[missing] in str(error)


@pytest.mark.parametrize("damaged", ["target", "draft"])
def test_damaged_weights_are_an_engine_error_by_path(tmp_path: Path, random_pair: Pair, damaged: str) -> None:
    paths = {"target": random_pair.target, "draft": random_pair.draft}
    folder = tmp_path / damaged
    shutil.copytree(paths[damaged], folder)
    paths[damaged] = str(folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    error = failure_of(experiment(spec_of("draft_model", 3, paths["draft"]), target=paths["target"]))
    assert isinstance(error, EngineError)
    assert paths[damaged] in str(error)


@pytest.mark.parametrize("incomplete", ["target", "draft"])
def test_weights_that_lack_a_tensor_are_an_engine_error_by_path(
    tmp_path: Path, random_pair: Pair, incomplete: str
) -> None:
    """transformers fills what is missing with random numbers; figures of such a model would mean nothing."""
    paths = {"target": random_pair.target, "draft": random_pair.draft}
    model = LlamaForCausalLM.from_pretrained(paths[incomplete])
    tensors = model.state_dict()
    del tensors["model.layers.1.mlp.up_proj.weight"]
    model.save_pretrained(tmp_path / incomplete, state_dict=tensors)
    paths[incomplete] = str(tmp_path / incomplete)
    error = failure_of(experiment(spec_of("draft_model", 3, paths["draft"]), target=paths["target"]))
    assert isinstance(error, EngineError)
    assert paths[incomplete] in str(error)


@pytest.mark.parametrize("missing", ["target", "draft"])
def test_a_folder_without_a_checkpoint_is_an_error_by_path(tmp_path: Path, random_pair: Pair, missing: str) -> None:
    paths = {"target": random_pair.target, "draft": random_pair.draft}
    (tmp_path / "empty").mkdir()
    paths[missing] = str(tmp_path / "empty")
    error = failure_of(experiment(spec_of("draft_model", 3, paths["draft"]), target=paths["target"]))
    assert paths[missing] in str(error)
