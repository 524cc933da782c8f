"""Lengths, ids and vocabularies that do not go together are refused before any process starts."""

import json
from pathlib import Path
from typing import Any

import pytest

from specdec_bench.checkpoints.checks import check_checkpoints
from specdec_bench.config.checkpoints import ASSETS
from specdec_bench.config.schema.engine import (
    EngineConfig,
    SGLangEngine,
    SyntheticEngine,
    TensorRTLLMEngine,
    TransformersEngine,
    VLLMEngine,
)
from specdec_bench.config.schema.model import DraftCheckpoint, ModelConfig
from specdec_bench.config.schema.sampling import SamplingConfig
from specdec_bench.config.schema.spec import DraftModelSpec, NgramSpec, SpecConfig
from specdec_bench.errors import ConfigError
from tests.helpers import build
from tests.helpers.checkpoint_folders import write_json

ENGINES = [TransformersEngine(), VLLMEngine(), SGLangEngine(), TensorRTLLMEngine()]


def check(
    engine: EngineConfig | None = None,
    spec: SpecConfig | None = None,
    sampling: dict[str, Any] | None = None,
    **model: Any,
) -> None:
    check_checkpoints(
        build.experiment(
            engine=engine or TransformersEngine(),
            model=ModelConfig(**({"name": "m", "path": "bundled:tiny/target"} | model)),
            spec=spec or NgramSpec(),
            sampling=SamplingConfig(**(sampling or {})),
        )
    )


def made(folder: Path, **config: Any) -> str:
    write_json(folder / "config.json", {"model_type": "llama"} | config)
    return str(folder)


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_a_context_beyond_the_model_s_is_refused_on_every_engine(tmp_path: Path, engine: EngineConfig) -> None:
    path = made(tmp_path, max_position_embeddings=64)
    check(engine, path=path)
    check(engine, path=path, max_seq_len=64)
    with pytest.raises(ConfigError, match=r"model\.max_seq_len=65: the model has positions for 64 tokens"):
        check(engine, path=path, max_seq_len=65)


def test_a_model_that_states_no_length_has_none_to_exceed(tmp_path: Path) -> None:
    check(path=made(tmp_path), max_seq_len=10**6)


def test_a_draft_longer_than_what_a_request_holds_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path, max_position_embeddings=64)
    check(path=path, spec=NgramSpec(draft_length=63))
    with pytest.raises(ConfigError, match=r"spec\.draft_length=64: must be below the 64 tokens"):
        check(path=path, spec=NgramSpec(draft_length=64))
    with pytest.raises(ConfigError, match=r"spec\.draft_length=32: must be below the 32 tokens"):
        check(path=path, spec=NgramSpec(draft_length=32), max_seq_len=32)
    with pytest.raises(ConfigError, match=r"spec\.draft_length=32: must be below the 32 tokens"):
        check(SyntheticEngine(), spec=NgramSpec(draft_length=32), max_seq_len=32)


def test_stop_ids_beyond_the_vocabulary_are_refused(tmp_path: Path) -> None:
    path = made(tmp_path, text_config={"vocab_size": 10})
    check(path=path, sampling={"stop_token_ids": [0, 9]})
    with pytest.raises(ConfigError, match=r"sampling\.stop_token_ids=10: .* has 10 tokens, ids 0 to 9"):
        check(path=path, sampling={"stop_token_ids": [9, 10]})
    with pytest.raises(ConfigError, match=r"sampling\.stop_token_ids=12: .* has 12 tokens"):
        check(SyntheticEngine(vocab_size=12), sampling={"stop_token_ids": [12]})


@pytest.mark.parametrize("role", ["target", "tokenizer", "draft"])
def test_a_file_that_cannot_be_read_is_named_whoever_s_it_is(tmp_path: Path, role: str) -> None:
    made(tmp_path)
    (tmp_path / "generation_config.json").write_text("{")
    model = {"target": {"path": str(tmp_path)}, "tokenizer": {"tokenizer": str(tmp_path)}, "draft": {}}[role]
    spec = DraftModelSpec(draft=DraftCheckpoint(path=str(tmp_path))) if role == "draft" else NgramSpec()
    with pytest.raises(ConfigError, match=r"generation_config\.json: cannot be read as JSON"):
        check(spec=spec, **model)


@pytest.fixture
def renamed(tmp_path: Path) -> Path:
    """A draft like the bundled one, a filler token of which has another name."""
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_bytes((ASSETS / "tiny" / "draft" / name).read_bytes())
    tokenizer = (tmp_path / "tokenizer.json").read_text(encoding="utf-8")
    (tmp_path / "tokenizer.json").write_text(tokenizer.replace("<|pad|>", "<|filler|>"), encoding="utf-8")
    return tmp_path


def test_a_renamed_token_is_refused_unless_it_is_allowed(renamed: Path) -> None:
    with pytest.raises(ConfigError, match=r"2 entries of its vocabulary differ.*allow_vocabulary_differences=true"):
        check(spec=DraftModelSpec(draft=DraftCheckpoint(path=str(renamed))))
    allowed = DraftCheckpoint(path=str(renamed), allow_vocabulary_differences=True)
    check(spec=DraftModelSpec(draft=allowed))
    check(spec=DraftModelSpec(), drafts={"draft_model": allowed})


def test_another_size_of_vocabulary_is_never_allowed(renamed: Path) -> None:
    config = json.loads((renamed / "config.json").read_text())
    write_json(renamed / "config.json", config | {"vocab_size": 100})
    with pytest.raises(ConfigError, match="its vocabulary has 100 tokens, the target's 2048"):
        check(spec=DraftModelSpec(draft=DraftCheckpoint(path=str(renamed), allow_vocabulary_differences=True)))
