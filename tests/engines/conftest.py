"""The tests of real engines: torch kept to one thread (the tiny models gain nothing from more), and what they share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from specdec_bench.archive import RunDirectory
from tests.helpers.engine_runs import DRAFT, TARGET, EnginePool, demo_prompts
from tests.helpers.engine_sweeps import COMMON, Cells, grid_once, sweep_once
from tests.helpers.exactness import VOCABULARY, Pair, Truths
from tests.helpers.sglang_sweeps import sglang_sweep


@pytest.fixture(scope="session")
def engines() -> Iterator[EnginePool]:
    pool = EnginePool()
    yield pool
    pool.stop()


@pytest.fixture(scope="session")
def truths() -> Truths:
    return Truths()


@pytest.fixture(scope="session")
def tiny() -> Pair:
    """The bundled pair, and first turns spread evenly over the demo prompts."""
    prompts, stops = demo_prompts(8)
    return Pair(target=TARGET, draft=DRAFT, prompts=prompts, stops=stops)


@pytest.fixture(scope="session")
def random_pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Two untrained models: the draft is the target with a little noise, so that it is often right, often not."""
    folder = tmp_path_factory.mktemp("random")
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=64,
        max_position_embeddings=256,
        initializer_range=0.5,
        bos_token_id=None,
        eos_token_id=3,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder / "target")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(folder / "draft")
    prompts = [[(i * 7 + j * j) % VOCABULARY for j in range(4 + i)] for i in range(7)]
    return Pair(target=str(folder / "target"), draft=str(folder / "draft"), prompts=prompts, stops=(3, 17))


@pytest.fixture(scope="session")
def twin(random_pair: Pair) -> Pair:
    """The random target as its own draft: every draft is right, so every step can be written down by hand."""
    return Pair(
        target=random_pair.target, draft=random_pair.target, prompts=random_pair.prompts, stops=random_pair.stops
    )


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def truth(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunDirectory]:
    """What the transformers engine makes of the prompts, by method; one sweep for all processes of tests."""
    methods = ("none", "ngram", "draft_model")
    runs = sweep_once(_shared(tmp_path_factory) / "transformers", *COMMON, f"spec={','.join(methods)}")
    return dict(zip(methods, runs, strict=True))


@pytest.fixture(scope="session")
def vllm_in_process(tmp_path_factory: pytest.TempPathFactory) -> Cells:
    """What vLLM in process makes of the prompts; one sweep for all files."""
    return grid_once(_shared(tmp_path_factory) / "vllm", "engine=vllm", "engine.enforce_eager=true")


@pytest.fixture(scope="session")
def sglang_in_process(tmp_path_factory: pytest.TempPathFactory) -> Cells:
    """What SGLang in process makes of the prompts; one sweep for all processes of tests."""
    return sglang_sweep(_shared(tmp_path_factory) / "sglang", "sglang")


def _shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder that all processes of this session of tests have in common."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
